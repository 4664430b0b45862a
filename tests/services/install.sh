#!/usr/bin/env bash
# Makes sure the servers that tests start are on this machine: the jars of Apache Kafka, ElasticMQ and OpenSearch, the
# toxiproxy binary and Google's fake of Pub/Sub, kept in the user's cache folder. Downloads once; a moment when all is there.
set -euo pipefail

kafka=4.3.1 # 4.4.0 can't be resolved
slf4j=1.7.36
copy_dependencies=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
toxiproxy=2.5.0
opensearch=2.19.1
log4j=2.21.0 # what that release was built with
pubsub_fake=2.3.0 # as pubsub_fake/go.mod says
elasticmq=1.7.1

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
services="${XDG_CACHE_HOME:-$HOME/.cache}/penstock/services"
jars="$services/kafka-$kafka"
proxy="$services/toxiproxy-$toxiproxy"
pubsub="$services/pubsub-fake-$pubsub_fake"
queues="$services/elasticmq-$elasticmq"
search="$services/opensearch-$opensearch"

complete() { [[ -d "$jars" && -d "$proxy" && -d "$pubsub" && -d "$queues" && -d "$search" ]] && command -v java >/dev/null; }
complete && exit 0

# Two runs at once (pytest's workers, two checkouts) must not download beside each other.
mkdir -p "$services"
if command -v flock >/dev/null; then
    exec 9>"$services/.lock"
    flock -w 900 9 || { echo "another tests/services/install.sh has held $services/.lock for 15 minutes" >&2; exit 1; }
    complete && exit 0
fi

say() { echo "tests/services: $*" >&2; }

# need <what for> <Debian package> <command that proves it is there>
need() {
    bash -c "$3" &>/dev/null && return
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        say "installing $2 ($1)"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq install --no-install-recommends -y "$2"; } >&2
        bash -c "$3" &>/dev/null && return
    fi
    say "missing: $1. On Debian or Ubuntu: sudo apt-get install $2"
    return 1
}

java_17='(( $(java -version 2>&1 | sed -nE "1s/.*\"([0-9]+).*/\1/p") >= 17 ))'
need "Java 17 or newer, to run Apache Kafka" default-jre-headless "$java_17"

# What is downloaded gets its final name only when it is complete.
unfinished="$(mktemp -d "$services/.unfinished-XXXXXX")"
trap 'rm -rf "$unfinished"' EXIT

if [[ ! -d "$jars" ]]; then
    need "Maven, to download Apache Kafka" maven "mvn -v"
    say "downloading Apache Kafka $kafka"
    cat >"$unfinished/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>penstock</groupId><artifactId>test-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$slf4j</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -Dstyle.color=never -f "$unfinished/pom.xml" "$copy_dependencies" -DoutputDirectory="$unfinished/jars" >&2
    mv "$unfinished/jars" "$jars"
fi

if [[ ! -d "$queues" ]]; then
    need "Maven, to download ElasticMQ" maven "mvn -v"
    say "downloading ElasticMQ $elasticmq"
    cat >"$unfinished/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>penstock</groupId><artifactId>test-sqs</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.elasticmq</groupId><artifactId>elasticmq-server_2.13</artifactId><version>$elasticmq</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -Dstyle.color=never -f "$unfinished/pom.xml" "$copy_dependencies" -DoutputDirectory="$unfinished/queues" >&2
    mv "$unfinished/queues" "$queues"
fi

if [[ ! -d "$proxy" ]]; then
    need "Go, to build toxiproxy" golang-go "go version"
    say "building toxiproxy $toxiproxy"
    GOBIN="$unfinished/toxiproxy" go install "github.com/Shopify/toxiproxy/v2/cmd/server@v$toxiproxy" >&2
    mv "$unfinished/toxiproxy" "$proxy"
fi

if [[ ! -d "$pubsub" ]]; then
    need "Go, to build Google's fake of Pub/Sub" golang-go "go version"
    say "building the fake of Pub/Sub $pubsub_fake"
    mkdir "$unfinished/pubsub"
    (cd "$here/pubsub_fake" && go build -mod=readonly -o "$unfinished/pubsub/server" .)
    mv "$unfinished/pubsub" "$pubsub"
fi

if [[ ! -d "$search" ]]; then
    need "Maven, to download OpenSearch" maven "mvn -v"
    say "downloading OpenSearch $opensearch"
    cat >"$unfinished/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>penstock</groupId><artifactId>test-opensearch</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.opensearch</groupId><artifactId>opensearch</artifactId><version>$opensearch</version></dependency>
    <dependency><groupId>org.opensearch</groupId><artifactId>opensearch-plugin-classloader</artifactId><version>$opensearch</version></dependency>
    <dependency><groupId>org.opensearch.plugin</groupId><artifactId>transport-netty4-client</artifactId><version>$opensearch</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$log4j</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -Dstyle.color=never -f "$unfinished/pom.xml" "$copy_dependencies" -DoutputDirectory="$unfinished/search/lib" >&2
    # The transport is a module: with class path and policy of its own.
    mkdir -p "$unfinished/search/modules/transport-netty4"
    mv "$unfinished"/search/lib/{netty-,transport-netty4-}*.jar "$unfinished/search/modules/transport-netty4"
    chmod -R a+rX "$unfinished/search"
    mv "$unfinished/search" "$search"
fi
