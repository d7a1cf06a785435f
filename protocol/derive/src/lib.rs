//! `#[derive(Message)]`: encoding and decoding of protocol structs, version by version.
//!
//! One plain struct stands for all versions of a message, as in Kafka's schemas. Attributes carry
//! what the schema says; every bound is checked at compile time, nothing is looked up at run time.
//!
//! On the struct, only for the top level of a request or response:
//! `#[message(versions = "3-13", flexible = "9+", key = Produce, response = ProduceResponse)]`.
//! Leave `flexible` out for a message that never uses the compact forms; `key` and `response` belong
//! to requests. A nested struct whose schema name is taken in its file says
//! `#[message(name = "TopicPartitions")]`.
//!
//! On a field, all optional: `#[field(versions = "2-7", nullable = "3+", tag = 0, default = -1,
//! ignorable)]`. Versions default to `0+`; `default = null` needs an `Option`.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Default`, `Field` and `Nullable`, and for a top-level struct `Message` and `Request`.
///
/// # Errors
/// A struct without named fields, a malformed version range, a tag outside the flexible versions'
/// reach or a `nullable` field that is not an `Option` does not compile.
#[proc_macro_derive(Message, attributes(message, field))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    attributes::Definition::parse(&input)
        .map(|definition| expand::expand(&definition))
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
