#!/usr/bin/env bash
# Writes the golden files of this folder anew with Kafka's own Java client. Needs Java 17 and Maven; the tests that
# read the files need neither. The output is the same on every run: a difference in git is a change of Kafka.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jars=$("$here/../real/fetch-jars.sh" kafka)
java -cp "$jars/*" "$here/java/KafkaBatches.java" write "$here"
