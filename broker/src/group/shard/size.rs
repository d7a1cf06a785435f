//! Which events may take long.

use palisade_protocol::Str;

use super::{Group, Shard};

/// Whoever looks at so many groups, offsets, topics or partitions may take a millisecond.
pub(crate) const MANY: usize = 2048;
/// So may whoever looks at members that hold so many bytes: 400 of them at 2.5 KiB each, or fewer
/// with many names.
const LARGE: usize = 1 << 20;

impl Shard {
    /// Whether an event may take long that concerns this group, or all groups, told by what is
    /// counted already: most events take microseconds.
    pub(crate) fn is_large(&self, group: Option<&Str>) -> bool {
        let Some(id) = group else {
            return self.groups.len() >= MANY;
        };
        self.groups.get(id.as_str()).is_some_and(|entry| {
            let (held, rows) = match &entry.group {
                Group::Classic(group) => (group.held(), 0),
                Group::Consumer(group) => (group.held(), group.topics_and_partitions()),
            };
            held >= LARGE || rows + entry.offsets.len() >= MANY
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::budget::Budget;
    use crate::group::record::{GroupRecord, MemberValue, OffsetCommitValue};
    use crate::group::shard::Source;

    fn commit(group: &str, partition: i32) -> GroupRecord {
        GroupRecord::Offset {
            group: Str::copy(group),
            topic: "t".into(),
            partition,
            value: Some(OffsetCommitValue::default()),
        }
    }

    #[test]
    fn few_rows_are_small_and_many_large() {
        let mut shard = Shard::new(Budget::new(128 << 20));
        let many = i32::try_from(MANY).unwrap();
        let g = Str::from("g");
        for partition in 1..many {
            shard.replay(&commit("g", partition), Source::Log);
        }
        assert!(!shard.is_large(Some(&g)));
        shard.replay(&commit("g", 0), Source::Log);
        assert!(shard.is_large(Some(&g)));
        for group in 2..MANY {
            shard.replay(&commit(&format!("g-{group}"), 0), Source::Log);
        }
        assert!(!shard.is_large(None));
        shard.replay(&commit("last", 0), Source::Log);
        assert!(shard.is_large(None));
        assert!(!shard.is_large(Some(&"last".into())));
        assert!(!shard.is_large(Some(&"none".into())));
    }

    #[test]
    fn members_make_a_group_large() {
        let mut shard = Shard::new(Budget::new(128 << 20));
        let g = Str::from("g");
        for member in 0..500 {
            let record = GroupRecord::Member {
                group: g.clone(),
                member: Str::from(format!("m-{member}")),
                value: Some(MemberValue::default()),
            };
            shard.replay(&record, Source::Log);
            if member == 100 {
                assert!(!shard.is_large(Some(&g)));
            }
        }
        assert!(shard.is_large(Some(&g)));
    }
}
