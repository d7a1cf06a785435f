//! Places in a partition as people name them: where reading begins, and where a group is moved to.
//!
//! Kafka's words come first (`earliest`, `latest`); every spelling stands for the same place in
//! every command.

use super::moment;

/// The spellings, for help texts and errors.
pub(crate) const WORDS: &str = "earliest, latest, offset:N or N, -N (so many records before the end), \
                                or time:TIME (RFC 3339, or ms since 1970)";

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first offset of the log.
    Earliest,
    /// The end of the log.
    Latest,
    /// That offset.
    Offset(i64),
    /// So many offsets before the end, or the first.
    BeforeEnd(i64),
    /// The first record of this time, in ms since 1970, or later; the end where none is as late.
    Time(i64),
}

impl Place {
    /// Reads any spelling of a place.
    ///
    /// # Errors
    /// What was expected, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let count = |text: &str| {
            let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_bare);
            number.ok_or_else(|| format!("expected {WORDS}"))
        };
        match (text.split_once(':'), text.split_at_checked(1)) {
            (Some(("offset", offset)), _) => count(offset).map(Self::Offset),
            (Some(("time", time)), _) => moment::parse(time).map(Self::Time),
            (_, Some(("@", time))) => moment::parse(time).map(Self::Time),
            (_, Some(("-", back))) => count(back).map(Self::BeforeEnd),
            _ => match text {
                "earliest" | "beginning" => Ok(Self::Earliest),
                "latest" | "end" => Ok(Self::Latest),
                offset => count(offset).map(Self::Offset),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn every_spelling_of_every_place() {
        for (texts, place) in [
            (&["earliest", "beginning"][..], Place::Earliest),
            (&["latest", "end"], Place::Latest),
            (&["offset:7", "7"], Place::Offset(7)),
            (&["-7"], Place::BeforeEnd(7)),
            (&["time:7", "@7"], Place::Time(7)),
            (
                &["time:1970-01-01T00:00:01Z", "@1970-01-01T00:00:01Z"],
                Place::Time(1000),
            ),
        ] {
            for text in texts {
                assert_eq!(Place::parse(text), Ok(place), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "-",
            "--1",
            "+1",
            "@",
            "@now",
            "begin",
            "1.5",
            "offset",
            "offset:",
            "offset:-1",
            "offset:+1",
            "shift:1",
            "time:",
            "time:x",
            "current",
            "é",
            "é:1",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
