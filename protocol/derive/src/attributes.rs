//! Reads the attributes of a struct into plain values.

use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Fields, GenericArgument, Ident, LitInt, LitStr,
    PathArguments, Result, Type,
};

/// An inclusive range of versions; an open end is `i16::MAX`.
#[derive(Clone, Copy)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    const ALL: Versions = Versions {
        first: 0,
        last: i16::MAX,
    };

    fn parse(text: &LitStr) -> Result<Self> {
        let value = text.value();
        let number = |s: &str| {
            s.parse::<i16>()
                .map_err(|_| Error::new(text.span(), "expected 3, 3+ or 3-7"))
        };
        let range = if let Some(first) = value.strip_suffix('+') {
            Versions {
                first: number(first)?,
                last: i16::MAX,
            }
        } else if let Some((first, last)) = value.split_once('-') {
            Versions {
                first: number(first)?,
                last: number(last)?,
            }
        } else {
            let only = number(&value)?;
            Versions {
                first: only,
                last: only,
            }
        };
        if range.first < 0 || range.first > range.last {
            return Err(Error::new(text.span(), "an empty range of versions"));
        }
        Ok(range)
    }
}

/// What `#[message(..)]` says of a request or response.
pub(crate) struct TopLevel {
    pub(crate) versions: Versions,
    pub(crate) first_flexible: Option<i16>,
    /// The key and the response of a request.
    pub(crate) request: Option<(Ident, Ident)>,
}

/// One field with what its schema entry says.
pub(crate) struct FieldDefinition {
    pub(crate) ident: Ident,
    /// The type on the wire: for a nullable field what is inside the `Option`.
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Expr>,
    pub(crate) ignorable: bool,
}

impl FieldDefinition {
    /// The field's name as the schema spells it in snake case.
    pub(crate) fn name(&self) -> String {
        self.ident.to_string().trim_start_matches("r#").to_owned()
    }

    /// Says whether the default is null.
    pub(crate) fn defaults_to_null(&self) -> bool {
        matches!(&self.default, Some(Expr::Path(path)) if path.path.is_ident("null"))
    }
}

/// A whole struct.
pub(crate) struct Definition {
    pub(crate) ident: Ident,
    /// The schema's name, where it differs from the Rust one.
    pub(crate) name: String,
    pub(crate) top: Option<TopLevel>,
    pub(crate) fields: Vec<FieldDefinition>,
}

impl Definition {
    pub(crate) fn parse(input: &DeriveInput) -> Result<Self> {
        let Data::Struct(data) = &input.data else {
            return Err(Error::new(input.span(), "a message is a struct"));
        };
        let Fields::Named(named) = &data.fields else {
            return Err(Error::new(input.span(), "a message has named fields"));
        };
        let (name, top) = parse_message(&input.attrs)?;
        let fields = named
            .named
            .iter()
            .map(parse_field)
            .collect::<Result<Vec<_>>>()?;
        Ok(Definition {
            ident: input.ident.clone(),
            name: name.unwrap_or_else(|| input.ident.to_string()),
            top,
            fields,
        })
    }
}

fn parse_message(attributes: &[Attribute]) -> Result<(Option<String>, Option<TopLevel>)> {
    let (mut name, mut versions, mut first_flexible, mut key, mut response) =
        (None, None, None, None, None);
    for attribute in attributes.iter().filter(|a| a.path().is_ident("message")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                name = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("versions") {
                versions = Some(Versions::parse(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("flexible") {
                first_flexible = Some(Versions::parse(&meta.value()?.parse()?)?.first);
            } else if meta.path.is_ident("key") {
                key = Some(meta.value()?.parse::<Ident>()?);
            } else if meta.path.is_ident("response") {
                response = Some(meta.value()?.parse::<Ident>()?);
            } else {
                return Err(meta.error("expected name, versions, flexible, key or response"));
            }
            Ok(())
        })?;
    }
    let top = versions.map(|versions| TopLevel {
        versions,
        first_flexible,
        request: key.zip(response),
    });
    Ok((name, top))
}

fn parse_field(field: &syn::Field) -> Result<FieldDefinition> {
    let ident = field
        .ident
        .clone()
        .ok_or_else(|| Error::new(field.span(), "a field has a name"))?;
    let mut parsed = FieldDefinition {
        ident,
        ty: field.ty.clone(),
        versions: Versions::ALL,
        nullable: None,
        tag: None,
        default: None,
        ignorable: false,
    };
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("field")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("versions") {
                parsed.versions = Versions::parse(&meta.value()?.parse()?)?;
            } else if meta.path.is_ident("nullable") {
                parsed.nullable = Some(Versions::parse(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("tag") {
                parsed.tag = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?);
            } else if meta.path.is_ident("default") {
                parsed.default = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("ignorable") {
                parsed.ignorable = true;
            } else {
                return Err(meta.error("expected versions, nullable, tag, default or ignorable"));
            }
            Ok(())
        })?;
    }
    match (option_of(&field.ty), parsed.nullable) {
        (Some(inner), Some(_)) => parsed.ty = inner.clone(),
        (None, None) => {}
        _ => {
            return Err(Error::new(
                field.span(),
                "`nullable` and `Option` go together",
            ));
        }
    }
    if parsed.defaults_to_null() && parsed.nullable.is_none() {
        return Err(Error::new(
            field.span(),
            "only a nullable field defaults to null",
        ));
    }
    Ok(parsed)
}

/// `T` of `Option<T>`.
fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|s| s.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}
