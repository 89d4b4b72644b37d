#!/usr/bin/env bash
# fetch-jars.sh NAME : prints the folder that holds the jars of poms/NAME.xml, fetched by Maven the first time.
# TAILRACE_TEST_CACHE says where (default: ~/.cache/tailrace-test). A changed pom gets a new folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$1
pom=$here/poms/$name.xml
cache=${TAILRACE_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/tailrace-test}
out=$cache/$name-$(sha256sum "$pom" | cut -c1-12)
if [ ! -d "$out" ]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cp "$pom" "$work/pom.xml"
  # Maven writes to stdout even when told to be quiet, and stdout is this script's answer.
  (cd "$work" && mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work/jars") >&2
  # A rename, so that a folder that is there is complete. Another run may have won meanwhile.
  mv -T "$work/jars" "$out" 2>/dev/null || [ -d "$out" ]
fi
echo "$out"
