//! Static descriptions of the messages, written by the derive; tests compare them with Kafka's
//! schemas.

/// An inclusive range of versions; `i16::MAX` leaves the end open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionRange {
    /// The lowest version.
    pub first: i16,
    /// The highest version.
    pub last: i16,
}

impl VersionRange {
    /// Says whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

/// One request or response.
#[derive(Clone, Copy, Debug)]
pub struct MessageSchema {
    /// Versions that can be read and written.
    pub versions: VersionRange,
    /// The first version with compact lengths and tagged fields (KIP-482), if any.
    pub first_flexible: Option<i16>,
    /// The body, always [`TypeSchema::Struct`].
    pub body: TypeSchema,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum TypeSchema {
    /// A basic type by the schema's name, such as `int32`.
    Primitive(&'static str),
    /// An array of the inner type.
    Array(&'static TypeSchema),
    /// A struct.
    Struct(&'static StructSchema),
}

/// One struct.
#[derive(Clone, Copy, Debug)]
pub struct StructSchema {
    /// The schema's name of it.
    pub name: &'static str,
    /// Fields in wire order.
    pub fields: &'static [FieldSchema],
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct FieldSchema {
    /// The schema's name in snake case.
    pub name: &'static str,
    /// Its type, without nullability.
    pub ty: TypeSchema,
    /// Versions that have it.
    pub versions: VersionRange,
    /// Versions in which it may be null.
    pub nullable: Option<VersionRange>,
    /// Its tag, for a tagged field.
    pub tag: Option<u32>,
    /// Its default as written in the source, unless it is the type's own.
    pub default: Option<&'static str>,
    /// Whether a version without it may drop a value that is not the default.
    pub ignorable: bool,
}
