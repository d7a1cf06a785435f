#!/usr/bin/env bash
# Fetches the jar whose schemas the codec is compared with, and prints its path:
#   PALISADE_KAFKA_CLIENTS_JAR=$(protocol/tests/kafka-clients.sh) cargo test -p palisade-protocol
set -euo pipefail

version=4.4.0
directory=${1:-$(cd "$(dirname "$0")/../.." && pwd)/target/kafka-clients}
jar=$directory/kafka-clients-$version.jar
if [[ ! -s $jar ]]; then
  mvn -q -B dependency:copy "-Dartifact=org.apache.kafka:kafka-clients:$version" \
    "-DoutputDirectory=$directory" >&2
fi
echo "$jar"
