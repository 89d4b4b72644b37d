#!/usr/bin/env bash
# build.sh OUTDIR : makes OUTDIR/tailrace_VERSION_ARCH.deb from dist/ (run `npm run build` first) and the few packages
# that are not bundled. Needs dpkg-deb and node. The same tree gives the same bytes (SOURCE_DATE_EPOCH, or the last commit).
#
#   /usr/lib/tailrace/            programs and the packages that are not bundled
#   /usr/bin/tailrace{,-agent,-collector}
#   /usr/lib/systemd/system/      units, not enabled: what to ship and where to is for the operator to say first
#   /etc/tailrace/*.yaml          conffiles
#   /usr/share/doc/tailrace/      README, changelog, license, full example configs, example drop-ins
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$root"

version=$(node -p 'require("./package.json").version')
arch=$(dpkg-deb --version >/dev/null && dpkg --print-architecture)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$epoch
for program in tailrace tailrace-agent tailrace-collector; do
  [ -f "dist/$program.js" ] || { echo "dist/$program.js is missing: run npm run build first" >&2; exit 1; }
done

umask 022
tree=$(mktemp -d)
chmod 755 "$tree"
trap 'rm -rf "$tree"' EXIT
lib=$tree/usr/lib/tailrace
doc=$tree/usr/share/doc/tailrace
install -d -m 755 "$tree/DEBIAN" "$lib/dist" "$lib/node_modules/@node-rs" "$tree/usr/bin" "$tree/usr/lib/systemd/system" "$tree/etc/tailrace" "$doc"

install -m 755 dist/tailrace.js dist/tailrace-agent.js dist/tailrace-collector.js "$lib/dist/"
[ ! -f dist/scan-worker.js ] || install -m 755 dist/scan-worker.js "$lib/dist/"
[ ! -f dist/table-worker.js ] || install -m 755 dist/table-worker.js "$lib/dist/"
install -m 644 package.json "$lib/"
cp -R --no-preserve=mode,ownership node_modules/zstd-codec "$lib/node_modules/"
cp -R --no-preserve=mode,ownership node_modules/@node-rs/crc32* "$lib/node_modules/@node-rs/"
for program in tailrace tailrace-agent tailrace-collector; do ln -s "../lib/tailrace/dist/$program.js" "$tree/usr/bin/$program"; done

install -m 644 packaging/systemd/*.service "$tree/usr/lib/systemd/system/"
install -m 644 packaging/examples/agent.yaml packaging/examples/collector.yaml "$tree/etc/tailrace/"
printf '/etc/tailrace/%s\n' agent.yaml collector.yaml > "$tree/DEBIAN/conffiles"

install -m 644 README.md SECURITY.md packaging/examples/*-full.yaml "$doc/"
install -m 644 CHANGELOG.md "$doc/changelog"
install -m 644 LICENSE "$doc/copyright"
for drop_in in packaging/systemd/*.d/*.example; do
  unit=$(basename "$(dirname "$drop_in")")
  install -D -m 644 "$drop_in" "$doc/$unit/$(basename "$drop_in")"
done

sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$(du -sk --apparent-size "$tree" | cut -f1)/" "$here/control" > "$tree/DEBIAN/control"
install -m 755 "$here/postinst" "$here/prerm" "$tree/DEBIAN/"
(cd "$tree" && find usr etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
find "$tree" -exec touch --no-dereference --date="@$epoch" {} +

dpkg-deb --root-owner-group -Zgzip --build "$tree" "$out/tailrace_${version}_$arch.deb" >&2
echo "$out/tailrace_${version}_$arch.deb"
