# Recipes of daily work; `just` lists them. CI runs `.ci/run`.

default:
    @just --list

# The main job on the embedded default: a shop's change stream into ./lake.
shop:
    cargo run -- run examples/shop.sql

# A server for Postgres clients on 127.0.0.1:4566.
serve *args:
    cargo run --release -- serve {{args}}

# All tests that need no server.
test *args:
    cargo test --workspace {{args}}

# What CI checks before it tests.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Everything that must hold before a change lands.
ci:
    bash .ci/run

# The long lanes.
nightly:
    bash .ci/nightly

# Licences, sources and doubled versions of dependencies (needs cargo-deny).
deny:
    cargo deny check bans licenses sources

bench name *args:
    cargo bench --bench {{name}} -- {{args}}
