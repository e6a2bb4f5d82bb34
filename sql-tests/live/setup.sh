#!/usr/bin/env bash
# Installs what the lanes with real systems need. Idempotent, and quick when all is there.
#
#   sql-tests/live/setup.sh [build] [postgres] [python] [kafka] [java]    no argument: the last four
#
# It installs Debian's packages through apt, a Python venv at $FRAZIL_CACHE/venv from
# harness/requirements.txt, jars at $FRAZIL_CACHE/kafka from harness/pom.xml, and Iceberg's jars
# with the compiled reader at $FRAZIL_CACHE/iceberg-java from java.
# FRAZIL_CACHE defaults to ${XDG_CACHE_HOME:-$HOME/.cache}/frazil.
#
# Exit code 3: a registry is out of reach or refused; the command that failed is printed.
set -euo pipefail

harness=$(cd "$(dirname "${BASH_SOURCE[0]}")/../harness" && pwd)
cache=${FRAZIL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/frazil}
venv=$cache/venv
jars=$cache/kafka
java=$harness/../java
mkdir -p "$cache"

# Runs a command that needs a registry; its output is shown only if it fails.
fetch() {
    local log
    log=$(mktemp)
    if ! timeout "${FRAZIL_FETCH_SECONDS:-900}" "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        printf 'setup: a registry is out of reach or refused; this command failed:\n  %s\n' "$*" >&2
        exit 3
    fi
    rm -f "$log"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then fetch env DEBIAN_FRONTEND=noninteractive "$@"
    else fetch sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

apt_updated=no
apt_install() {
    printf 'setup: installing %s\n' "$*"
    if [ $apt_updated = no ]; then
        as_root apt-get update -q
        apt_updated=yes
    fi
    as_root apt-get install -y -q --no-install-recommends "$@"
}

# True if the stamp of a folder names the same inputs as now.
fresh() { [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]; }

# A C compiler and make, for the crates that bring C sources.
setup_build() {
    command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null && return
    apt_install build-essential
}

setup_postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || apt_install postgresql
}

setup_python() {
    local base stamp
    command -v python3 >/dev/null || apt_install python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    base=$(python3 -c 'import sys; print(sys.version)')
    stamp=$({ printf '%s\n' "$base"; cat "$harness/requirements.txt"; } | sha256sum | cut -d' ' -f1)
    if fresh "$venv" "$stamp"; then return; fi
    printf 'setup: making the Python venv at %s\n' "$venv"
    "$venv/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$venv"
    fetch "$venv/bin/python" -m pip install -q --disable-pip-version-check \
        -r "$harness/requirements.txt"
    printf '%s\n' "$stamp" >"$venv/.stamp"
}

setup_kafka() {
    local stamp
    command -v java >/dev/null || apt_install default-jre-headless
    stamp=$(sha256sum <"$harness/pom.xml" | cut -d' ' -f1)
    if fresh "$jars" "$stamp"; then return; fi
    command -v mvn >/dev/null || apt_install maven
    printf 'setup: copying Kafka, Connect and Debezium to %s\n' "$jars"
    rm -rf "$jars"
    fetch mvn -B -q -f "$harness/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$jars"
    printf '%s\n' "$stamp" >"$jars/.stamp"
}

# Iceberg's Java library, and our program that reads tables with it.
setup_java() {
    local stamp iceberg=$cache/iceberg-java
    command -v javac >/dev/null || apt_install default-jdk-headless
    stamp=$(cat "$java"/pom.xml "$java"/*.java | sha256sum | cut -d' ' -f1)
    if fresh "$iceberg" "$stamp"; then return; fi
    command -v mvn >/dev/null || apt_install maven
    printf 'setup: copying Iceberg to %s\n' "$iceberg"
    rm -rf "$iceberg"
    fetch mvn -B -q -f "$java/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$iceberg"
    javac -d "$iceberg/classes" -cp "$iceberg/*" "$java"/*.java
    printf '%s\n' "$stamp" >"$iceberg/.stamp"
}

# Two lanes that start together must not install over each other.
exec 9>"$cache/setup.lock"
flock 9

[ $# -gt 0 ] || set -- postgres python kafka java
for part in "$@"; do
    case $part in
        build) setup_build ;;
        postgres) setup_postgres ;;
        python) setup_python ;;
        kafka) setup_kafka ;;
        java) setup_java ;;
        *) printf 'setup: "%s" is not a part; there are build, postgres, python, kafka, java\n' "$part" >&2
           exit 2 ;;
    esac
done
