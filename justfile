# The commands of a working day. `just verify` only reads; `just fix` writes.

# What must hold before a commit.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    ./tests/run

# Formats, and applies what clippy can mend by itself.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# A secured node for a client to try.
dev *arguments:
    cargo run --release -- dev {{arguments}}

# One crate's tests: just test palisade-storage
test crate *arguments:
    cargo test -p {{crate}} {{arguments}}

# Licences, bans and sources of dependencies.
deny:
    cargo deny check
