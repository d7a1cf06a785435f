//! Writes the implementations of one struct.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::attributes::{Definition, FieldDefinition, TopLevel, Versions};

pub(crate) fn expand(definition: &Definition) -> TokenStream {
    let default = default_impl(definition);
    let field = field_impl(definition);
    let top = definition
        .top
        .as_ref()
        .map(|top| message_impl(definition, top));
    quote! {
        #default
        #field
        #top
    }
}

/// `Default` with the defaults of the schema.
fn default_impl(definition: &Definition) -> TokenStream {
    let ident = &definition.ident;
    let fields = definition.fields.iter().map(|field| {
        let (name, value) = (&field.ident, default_value(field));
        quote! { #name: #value }
    });
    quote! {
        impl ::core::default::Default for #ident {
            fn default() -> Self {
                Self { #(#fields),* }
            }
        }
    }
}

fn default_value(field: &FieldDefinition) -> TokenStream {
    if field.defaults_to_null() {
        return quote! { ::core::option::Option::None };
    }
    let ty = &field.ty;
    let value = match &field.default {
        Some(value) => quote! { #value },
        None => quote! { <#ty as ::core::default::Default>::default() },
    };
    if field.nullable.is_some() {
        quote! { ::core::option::Option::Some(#value) }
    } else {
        value
    }
}

/// `Field` (how the struct looks on the wire) and `Nullable`.
fn field_impl(definition: &Definition) -> TokenStream {
    let (ident, name) = (&definition.ident, &definition.name);
    let fields = &definition.fields;
    let schema = fields.iter().map(field_schema);
    let min_sizes = fields.iter().filter(|f| f.tag.is_none()).map(min_size);
    let reads = fields.iter().map(read_field);
    let names = fields.iter().map(|f| &f.ident);
    let read_tags = read_tags(fields);
    let writes = fields.iter().filter(|f| f.tag.is_none()).map(write_field);
    let write_tags = write_tags(fields);
    quote! {
        impl ::palisade_protocol::wire::Field for #ident {
            const TYPE: ::palisade_protocol::schema::TypeSchema = ::palisade_protocol::schema::TypeSchema::Struct(
                &::palisade_protocol::schema::StructSchema { name: #name, fields: &[#(#schema),*] },
            );

            fn min_size(version: ::palisade_protocol::wire::Version) -> usize {
                let mut size = usize::from(version.is_flexible());
                #(#min_sizes)*
                size
            }

            fn read(
                reader: &mut ::palisade_protocol::Reader,
                version: ::palisade_protocol::wire::Version,
            ) -> ::core::result::Result<Self, ::palisade_protocol::DecodeError> {
                #(#reads)*
                #read_tags
                ::core::result::Result::Ok(Self { #(#names),* })
            }

            fn write(
                &self,
                writer: &mut ::palisade_protocol::Writer,
                version: ::palisade_protocol::wire::Version,
            ) -> ::core::result::Result<(), ::palisade_protocol::EncodeError> {
                #(#writes)*
                #write_tags
                ::core::result::Result::Ok(())
            }
        }

        impl ::palisade_protocol::wire::Nullable for #ident {
            fn min_nullable_size(_version: ::palisade_protocol::wire::Version) -> usize {
                1
            }

            fn read_nullable(
                reader: &mut ::palisade_protocol::Reader,
                version: ::palisade_protocol::wire::Version,
            ) -> ::core::result::Result<::core::option::Option<Self>, ::palisade_protocol::DecodeError> {
                ::palisade_protocol::wire::read_nullable_struct(reader, version)
            }

            fn write_nullable(
                value: ::core::option::Option<&Self>,
                writer: &mut ::palisade_protocol::Writer,
                version: ::palisade_protocol::wire::Version,
            ) -> ::core::result::Result<(), ::palisade_protocol::EncodeError> {
                ::palisade_protocol::wire::write_nullable_struct(value, writer, version)
            }
        }
    }
}

fn message_impl(definition: &Definition, top: &TopLevel) -> TokenStream {
    let ident = &definition.ident;
    let versions = versions(top.versions);
    let first_flexible = option(top.first_flexible.map(|v| quote! { #v }));
    let request = top.request.as_ref().map(|(key, response)| {
        quote! {
            impl ::palisade_protocol::Request for #ident {
                const KEY: ::palisade_protocol::api::ApiKey = ::palisade_protocol::api::ApiKey::#key;
                type Response = #response;
            }
        }
    });
    quote! {
        impl ::palisade_protocol::Message for #ident {
            const SCHEMA: &'static ::palisade_protocol::schema::MessageSchema =
                &::palisade_protocol::schema::MessageSchema {
                    versions: #versions,
                    first_flexible: #first_flexible,
                    body: <Self as ::palisade_protocol::wire::Field>::TYPE,
                };
        }

        #request
    }
}

fn field_schema(field: &FieldDefinition) -> TokenStream {
    let (name, ty, ignorable) = (field.name(), &field.ty, field.ignorable);
    let in_versions = versions(field.versions);
    let nullable = option(field.nullable.map(versions));
    let tag = option(field.tag.map(|tag| quote! { #tag }));
    let default = option(field.default.as_ref().map(|value| {
        let text = quote! { #value }.to_string().replace(' ', "");
        quote! { #text }
    }));
    quote! {
        ::palisade_protocol::schema::FieldSchema {
            name: #name,
            ty: <#ty as ::palisade_protocol::wire::Field>::TYPE,
            versions: #in_versions,
            nullable: #nullable,
            tag: #tag,
            default: #default,
            ignorable: #ignorable,
        }
    }
}

fn min_size(field: &FieldDefinition) -> TokenStream {
    let ty = &field.ty;
    let present = contains(field.versions);
    let size = match field.nullable {
        Some(_) => {
            quote! { <#ty as ::palisade_protocol::wire::Nullable>::min_nullable_size(version) }
        }
        None => quote! { <#ty as ::palisade_protocol::wire::Field>::min_size(version) },
    };
    quote! {
        if #present {
            size = size.saturating_add(#size);
        }
    }
}

/// Binds a variable of the field's name: read, or its default where the version lacks it.
fn read_field(field: &FieldDefinition) -> TokenStream {
    let (ident, default) = (&field.ident, default_value(field));
    if field.tag.is_some() {
        let ty = &field.ty;
        let ty = if field.nullable.is_some() {
            quote! { ::core::option::Option<#ty> }
        } else {
            quote! { #ty }
        };
        return quote! { let mut #ident: #ty = #default; };
    }
    let (present, value) = (contains(field.versions), read_value(field));
    quote! { let #ident = if #present { #value } else { #default }; }
}

fn read_value(field: &FieldDefinition) -> TokenStream {
    let ty = &field.ty;
    match field.nullable {
        Some(nullable) => {
            let allowed = contains(nullable);
            quote! { ::palisade_protocol::wire::read_nullable::<#ty>(reader, version, #allowed)? }
        }
        None => quote! { <#ty as ::palisade_protocol::wire::Field>::read(reader, version)? },
    }
}

fn read_tags(fields: &[FieldDefinition]) -> TokenStream {
    let arms = tagged(fields).into_iter().map(|(tag, field)| {
        let (ident, present, value) = (&field.ident, contains(field.versions), read_value(field));
        quote! {
            #tag if #present => {
                #ident = #value;
                ::core::result::Result::Ok(::palisade_protocol::wire::Tag::Read)
            }
            #tag => ::core::result::Result::Ok(::palisade_protocol::wire::Tag::NotInVersion),
        }
    });
    quote! {
        if version.is_flexible() {
            ::palisade_protocol::wire::read_tags(reader, |tag, reader| {
                let _ = &reader;
                match tag {
                    #(#arms)*
                    _ => ::core::result::Result::Ok(::palisade_protocol::wire::Tag::Unknown),
                }
            })?;
        }
    }
}

fn write_field(field: &FieldDefinition) -> TokenStream {
    let (present, value, refuse) = (contains(field.versions), write_value(field), refuse(field));
    quote! {
        if #present {
            #value
        } #refuse
    }
}

fn write_value(field: &FieldDefinition) -> TokenStream {
    let (ident, ty) = (&field.ident, &field.ty);
    match field.nullable {
        Some(nullable) => {
            let (allowed, name) = (contains(nullable), field.name());
            quote! {
                ::palisade_protocol::wire::write_nullable::<#ty>(&self.#ident, writer, version, #allowed, #name)?;
            }
        }
        None => {
            quote! { <#ty as ::palisade_protocol::wire::Field>::write(&self.#ident, writer, version)?; }
        }
    }
}

/// The `else` branch for a version without the field: dropping a value that matters is an error.
fn refuse(field: &FieldDefinition) -> TokenStream {
    if field.ignorable {
        return quote! {};
    }
    let (ident, default, name) = (&field.ident, default_value(field), field.name());
    quote! {
        else if self.#ident != #default {
            return ::core::result::Result::Err(::palisade_protocol::EncodeError::FieldNotInVersion {
                field: #name,
                version: version.number(),
            });
        }
    }
}

fn write_tags(fields: &[FieldDefinition]) -> TokenStream {
    let tagged = tagged(fields);
    let flags: Vec<_> = tagged
        .iter()
        .map(|(tag, _)| format_ident!("tag_{tag}"))
        .collect();
    let present = tagged.iter().zip(&flags).map(|((_, field), flag)| {
        let (ident, present, default) =
            (&field.ident, contains(field.versions), default_value(field));
        let refuse = refuse(field);
        quote! {
            let #flag = version.is_flexible() && #present && self.#ident != #default;
            if #flag {} #refuse
        }
    });
    // With the tag absent but allowed, the value is the default and the refusal does not fire.
    let values = tagged.iter().zip(&flags).map(|((tag, field), flag)| {
        let value = write_value(field);
        quote! {
            if #flag {
                writer.put_tagged(#tag, |writer| {
                    #value
                    ::core::result::Result::Ok(())
                })?;
            }
        }
    });
    quote! {
        #(#present)*
        if version.is_flexible() {
            writer.put_uvarint(0 #(+ u32::from(#flags))*);
            #(#values)*
        }
    }
}

/// The tagged fields by ascending tag, the order in which they are written.
fn tagged(fields: &[FieldDefinition]) -> Vec<(u32, &FieldDefinition)> {
    let mut tagged: Vec<_> = fields
        .iter()
        .filter_map(|f| f.tag.map(|tag| (tag, f)))
        .collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    tagged
}

fn versions(range: Versions) -> TokenStream {
    let Versions { first, last } = range;
    quote! { ::palisade_protocol::schema::VersionRange { first: #first, last: #last } }
}

fn contains(range: Versions) -> TokenStream {
    match (range.first, range.last) {
        (0, i16::MAX) => quote! { true },
        (first, last) => quote! { version.within(#first, #last) },
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote! { ::core::option::Option::Some(#value) },
        None => quote! { ::core::option::Option::None },
    }
}
