use super::*;

struct Heavy(usize);

impl Weigh for Heavy {
    fn weigh(&self) -> usize {
        self.0
    }
}

#[test]
fn what_comes_changes_and_goes_is_counted() {
    let budget = Budget::new(1 << 20);
    let mut kept = Kept::default();
    kept.insert("a".into(), Heavy(100));
    assert_eq!(budget.used(), 0, "nobody told it yet");
    kept.attach(&budget);
    assert_eq!(budget.used(), kept.held());
    kept.insert("a".into(), Heavy(200));
    kept.insert("b".into(), Heavy(1));
    kept.change("b", |heavy| heavy.0 = 50);
    kept.change_all(|_, heavy| heavy.0 += 1);
    assert_eq!(kept.held(), 2 * (1 + ENTRY) + 201 + 51);
    assert_eq!(kept.held(), kept.weighed_anew());
    assert_eq!(budget.used(), kept.held());
    kept.remove("a");
    assert_eq!(budget.used(), 1 + ENTRY + 51);
    drop(kept);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_group_gets_a_quarter_and_newcomers_not_the_last_eighth() {
    let budget = Budget::new(8000);
    let newcomer = |group, after| budget.reserve(group, None, after).is_ok();
    let grows = |group, before, after| budget.reserve(group, Some(before), after).is_ok();
    assert!(newcomer(0, 1750));
    assert!(!newcomer(0, 1751));
    assert!(newcomer(1000, 750));
    assert!(!newcomer(1000, 751));
    assert!(grows(1750, 1750, 2000));
    assert!(!grows(1750, 1750, 2001));
    assert!(grows(9000, 100, 100), "who does not grow is never refused");
    assert!(grows(9000, 100, 50));
    assert_eq!(budget.used(), 0, "refused or dropped, nothing stays");
}

#[test]
fn what_is_set_aside_counts_for_the_others() {
    let budget = Budget::new(8000);
    let held: Vec<_> = (0..4)
        .map(|_| budget.reserve(0, None, 1750).expect("room"))
        .collect();
    assert_eq!(
        budget.reserve(0, None, 1).expect_err("seven eighths"),
        GroupError::MembersFull { limit: 8000 }
    );
    let more = budget
        .reserve(1000, Some(0), 1000)
        .expect("the last eighth");
    assert!(budget.reserve(0, Some(10), 11).is_err());
    drop((held, more));
    assert_eq!(budget.used(), 0);
}
