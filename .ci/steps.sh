# Steps of a CI script: runs them, counts their tests, and closes with the sums. Sourced by `run`
# and `nightly`.
#
# A step that fails does not stop the later ones, unless they need what it makes. The last line
# counts all tests; a step without tests of its own, such as a lint, counts as one.

# The target folder outlives the clone: without it a run compiles 500 crates.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/frazil/target}
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0 PYTHONUNBUFFERED=1
export FRAZIL_BIN=$CARGO_TARGET_DIR/debug/frazil
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

passed=0
failed=0
summary=()

# Sums the closing lines of a log, `N passed; N failed` of cargo's and `N passed, N failed`.
count() {
    awk -v want="$1" '
        /^test result: |^[0-9]+ passed, [0-9]+ failed/ {
            for (i = 2; i <= NF; i++) if ($i ~ "^" want) sum += $(i - 1)
        }
        END { print sum + 0 }' "$2"
}

# step NAME LIMIT COMMAND...: runs it, prints its time, counts its tests; returns its success.
step() {
    local name=$1 limit=$2 log=$logs/$1 start=$SECONDS code=0 ok bad took
    shift 2
    printf '\n=== %s: %s\n' "$name" "$*"
    timeout --kill-after=20 "$limit" "$@" 2>&1 | tee "$log" || code=$?
    took=$((SECONDS - start))
    ok=$(count passed "$log")
    bad=$(count failed "$log")
    if [ $code = 0 ] && [ "$bad" = 0 ]; then
        [ "$ok" -gt 0 ] || ok=1
    else
        [ "$bad" -gt 0 ] || bad=1
        code=${code/#0/1}
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    summary+=("$(printf '%-9s %5d passed %5d failed %6d s' "$name" "$ok" "$bad" "$took")")
    printf '=== %s: exit code %s, %s s\n' "$name" "$code" "$took"
    return "$code"
}

# A lane that cannot run, since what it needs has failed, has failed too.
cannot() {
    failed=$((failed + 1))
    summary+=("$(printf '%-9s not run: %s' "$1" "$2")")
}

# Prints the sums; the script's exit code.
close() {
    printf '\n'
    printf '%s\n' "${summary[@]}"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}
