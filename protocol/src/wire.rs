//! How each type looks on the wire; what the derive builds on.

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::error_code::ErrorCode;
use crate::reader::Reader;
use crate::records::Records;
use crate::schema::{MessageSchema, TypeSchema};
use crate::text::Str;
use crate::uuid::Uuid;
use crate::writer::Writer;

/// A version of a message that exists, and whether it is flexible (KIP-482).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version {
    number: i16,
    flexible: bool,
}

impl Version {
    /// The version `number` of a message, if it has that.
    pub(crate) fn of(schema: &MessageSchema, number: i16) -> Option<Self> {
        let flexible = schema.first_flexible.is_some_and(|first| number >= first);
        schema
            .versions
            .contains(number)
            .then_some(Self { number, flexible })
    }

    /// The number.
    #[inline]
    pub fn number(self) -> i16 {
        self.number
    }

    /// Whether lengths are compact and structs end with tagged fields.
    #[inline]
    pub fn is_flexible(self) -> bool {
        self.flexible
    }

    /// Says whether the number lies in an inclusive range.
    #[inline]
    pub fn within(self, first: i16, last: i16) -> bool {
        first <= self.number && self.number <= last
    }
}

/// A type that can be a field or an array's element.
pub trait Field: Sized {
    /// Its description.
    const TYPE: TypeSchema;

    /// The fewest bytes a value takes.
    fn min_size(version: Version) -> usize;

    /// Reads a value.
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;

    /// Writes a value.
    fn write(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError>;
}

/// A type whose encoding has a form for null.
pub trait Nullable: Field {
    /// The fewest bytes a value or null takes.
    fn min_nullable_size(version: Version) -> usize {
        Self::min_size(version)
    }

    /// Reads a value or null.
    fn read_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError>;

    /// Writes a value or null.
    fn write_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError>;
}

/// Reads a field that may be null in some versions, of which this is one if `allowed`.
pub fn read_nullable<T: Nullable>(
    reader: &mut Reader,
    version: Version,
    allowed: bool,
) -> Result<Option<T>, DecodeError> {
    // Where null is not allowed a struct has no presence marker, so this is not a check afterwards.
    if allowed {
        T::read_nullable(reader, version)
    } else {
        T::read(reader, version).map(Some)
    }
}

/// Writes a field that may be null in some versions, of which this is one if `allowed`.
pub fn write_nullable<T: Nullable>(
    value: &Option<T>,
    writer: &mut Writer,
    version: Version,
    allowed: bool,
    field: &'static str,
) -> Result<(), EncodeError> {
    match value {
        _ if allowed => T::write_nullable(value.as_ref(), writer, version),
        Some(value) => value.write(writer, version),
        None => Err(EncodeError::UnexpectedNull { field }),
    }
}

/// The null form of a struct: a marker before it, -1 or 1.
pub fn read_nullable_struct<T: Field>(
    reader: &mut Reader,
    version: Version,
) -> Result<Option<T>, DecodeError> {
    match reader.read_i8()? {
        -1 => Ok(None),
        1 => T::read(reader, version).map(Some),
        marker => Err(DecodeError::PresenceMarker { marker }),
    }
}

/// The null form of a struct: a marker before it, -1 or 1.
pub fn write_nullable_struct<T: Field>(
    value: Option<&T>,
    writer: &mut Writer,
    version: Version,
) -> Result<(), EncodeError> {
    match value {
        None => {
            writer.put_i8(-1);
            Ok(())
        }
        Some(value) => {
            writer.put_i8(1);
            value.write(writer, version)
        }
    }
}

/// What became of a tagged field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tag {
    /// It was read.
    Read,
    /// The message knows it, but not in this version.
    NotInVersion,
    /// The message does not know it.
    Unknown,
}

/// Reads the tagged fields at the end of a struct; unknown ones are skipped.
pub fn read_tags(
    reader: &mut Reader,
    mut read: impl FnMut(u32, &mut Reader) -> Result<Tag, DecodeError>,
) -> Result<(), DecodeError> {
    let mut last = None;
    for _ in 0..reader.read_uvarint()? {
        let tag = reader.read_uvarint()?;
        if last.is_some_and(|last| tag <= last) {
            return Err(DecodeError::TagOrder { tag });
        }
        last = Some(tag);
        let size =
            usize::try_from(reader.read_uvarint()?).map_err(|_| DecodeError::VarintOverflow)?;
        let (what, surplus) = reader.within(size, |value| read(tag, value))?;
        match what {
            Tag::Read if surplus != 0 => return Err(DecodeError::TagSize { tag, surplus }),
            Tag::Read | Tag::Unknown => {}
            Tag::NotInVersion => return Err(DecodeError::TagNotInVersion { tag }),
        }
    }
    Ok(())
}

macro_rules! fixed {
    ($ty:ty, $name:literal, $read:ident, $put:ident) => {
        impl Field for $ty {
            const TYPE: TypeSchema = TypeSchema::Primitive($name);

            fn min_size(_version: Version) -> usize {
                size_of::<$ty>()
            }

            #[inline]
            fn read(reader: &mut Reader, _version: Version) -> Result<Self, DecodeError> {
                reader.$read()
            }

            #[inline]
            fn write(&self, writer: &mut Writer, _version: Version) -> Result<(), EncodeError> {
                writer.$put(*self);
                Ok(())
            }
        }
    };
}

fixed!(i8, "int8", read_i8, put_i8);
fixed!(i16, "int16", read_i16, put_i16);
fixed!(i32, "int32", read_i32, put_i32);
fixed!(i64, "int64", read_i64, put_i64);
fixed!(u16, "uint16", read_u16, put_u16);
fixed!(u32, "uint32", read_u32, put_u32);
fixed!(f64, "float64", read_f64, put_f64);

impl Field for bool {
    const TYPE: TypeSchema = TypeSchema::Primitive("bool");

    fn min_size(_version: Version) -> usize {
        1
    }

    fn read(reader: &mut Reader, _version: Version) -> Result<Self, DecodeError> {
        Ok(reader.read_i8()? != 0)
    }

    fn write(&self, writer: &mut Writer, _version: Version) -> Result<(), EncodeError> {
        writer.put_i8(i8::from(*self));
        Ok(())
    }
}

impl Field for ErrorCode {
    const TYPE: TypeSchema = TypeSchema::Primitive("int16");

    fn min_size(_version: Version) -> usize {
        2
    }

    fn read(reader: &mut Reader, _version: Version) -> Result<Self, DecodeError> {
        reader.read_i16().map(ErrorCode::new)
    }

    fn write(&self, writer: &mut Writer, _version: Version) -> Result<(), EncodeError> {
        writer.put_i16(self.value());
        Ok(())
    }
}

impl Field for Uuid {
    const TYPE: TypeSchema = TypeSchema::Primitive("uuid");

    fn min_size(_version: Version) -> usize {
        16
    }

    fn read(reader: &mut Reader, _version: Version) -> Result<Self, DecodeError> {
        reader.read_16_bytes().map(Uuid::from_bytes)
    }

    fn write(&self, writer: &mut Writer, _version: Version) -> Result<(), EncodeError> {
        writer.put_slice(self.as_bytes());
        Ok(())
    }
}

/// The fewest bytes of a length prefix: one when compact.
fn min_prefix(version: Version, classic: usize) -> usize {
    if version.is_flexible() { 1 } else { classic }
}

/// `Field` by way of `Nullable`, for types whose length prefix has a form for null.
macro_rules! by_nullable {
    () => {
        fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
            Self::read_nullable(reader, version)?.ok_or(DecodeError::UnexpectedNull)
        }

        fn write(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
            Self::write_nullable(Some(self), writer, version)
        }
    };
}

impl Field for Str {
    const TYPE: TypeSchema = TypeSchema::Primitive("string");

    fn min_size(version: Version) -> usize {
        min_prefix(version, 2)
    }

    by_nullable!();
}

impl Nullable for Str {
    fn read_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let length = reader.read_string_length(version.is_flexible())?;
        length.map(|length| reader.read_text(length)).transpose()
    }

    fn write_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.put_string_length(
            value.map(|text| text.as_bytes().len()),
            version.is_flexible(),
        )?;
        writer.put_slice(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

impl Field for Bytes {
    const TYPE: TypeSchema = TypeSchema::Primitive("bytes");

    fn min_size(version: Version) -> usize {
        min_prefix(version, 4)
    }

    by_nullable!();
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let length = reader.read_length(version.is_flexible())?;
        length.map(|length| reader.take(length)).transpose()
    }

    fn write_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.put_length(value.map(Bytes::len), version.is_flexible())?;
        writer.put_slice(value.map_or(&[], |bytes| bytes));
        Ok(())
    }
}

impl Field for Records {
    const TYPE: TypeSchema = TypeSchema::Primitive("records");

    fn min_size(version: Version) -> usize {
        min_prefix(version, 4)
    }

    by_nullable!();
}

impl Nullable for Records {
    fn read_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(reader, version)?.map(Records::Inline))
    }

    fn write_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.put_length(value.map(Records::len), version.is_flexible())?;
        if let Some(records) = value {
            writer.put_records(records);
        }
        Ok(())
    }
}

/// Reads how many elements an array has, each of at least `wire_size` bytes there and of
/// `memory_size` bytes here. Not generic, so that it is in the binary once and not per array.
fn read_count(
    reader: &mut Reader,
    version: Version,
    wire_size: usize,
    memory_size: usize,
) -> Result<Option<usize>, DecodeError> {
    let Some(count) = reader.read_length(version.is_flexible())? else {
        return Ok(None);
    };
    // The count is a claim; the bytes that are there bound what it may reserve.
    let remaining = reader.remaining();
    if count > remaining.checked_div(wire_size.max(1)).unwrap_or(0) {
        return Err(DecodeError::CountTooLarge { count, remaining });
    }
    reader.charge(count.saturating_mul(memory_size))?;
    Ok(Some(count))
}

impl<T: Field> Field for Vec<T> {
    const TYPE: TypeSchema = TypeSchema::Array(&T::TYPE);

    fn min_size(version: Version) -> usize {
        min_prefix(version, 4)
    }

    by_nullable!();
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = read_count(reader, version, T::min_size(version), size_of::<T>())? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader, version)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.put_length(value.map(Vec::len), version.is_flexible())?;
        value
            .into_iter()
            .flatten()
            .try_for_each(|element| element.write(writer, version))
    }
}
