//! Connections driven by raw sockets: what a hostile or hurried client sees on the wire.

mod login;
mod ready;
mod rig;
mod tls;
