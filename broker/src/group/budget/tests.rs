use super::*;

struct Heavy(usize, Option<Principal>);

impl Weigh for Heavy {
    fn parts(&self) -> [Part; 2] {
        [(self.1.clone(), self.0), (None, 0)]
    }
}

#[test]
fn what_comes_changes_and_goes_is_counted() {
    let budget = Budget::new(1 << 20);
    let mut kept = Kept::default();
    kept.insert("a".into(), Heavy(100, None));
    assert_eq!(budget.used(), 0, "nobody told it yet");
    kept.attach(&budget);
    assert_eq!(budget.used(), kept.held());
    kept.insert("a".into(), Heavy(200, None));
    kept.insert("b".into(), Heavy(1, None));
    kept.change("b", |heavy| heavy.0 = 50);
    kept.change_all(|_, heavy| heavy.0 += 1);
    assert_eq!(kept.held(), 2 * (1 + ENTRY) + 201 + 51);
    let anew = kept.weighed_anew().into_iter();
    assert_eq!(kept.held(), anew.map(|(_, bytes)| bytes).sum::<usize>());
    assert_eq!(budget.used(), kept.held());
    kept.remove("a");
    assert_eq!(budget.used(), 1 + ENTRY + 51);
    drop(kept);
    assert_eq!(budget.used(), 0);
}

fn user(name: &str) -> Principal {
    Principal::user(name)
}

#[test]
fn it_is_counted_for_whose_it_is() {
    let budget = Budget::new(1 << 20);
    let of = |name| budget.shares().by_owner().get(&user(name)).copied();
    let mut kept = Kept::default();
    kept.insert("a".into(), Heavy(100, Some(user("alice"))));
    kept.insert("b".into(), Heavy(100, None));
    kept.attach(&budget);
    assert_eq!(of("alice"), Some(1 + ENTRY + 100));
    kept.change("b", |heavy| heavy.1 = Some(user("bob")));
    kept.change("a", |heavy| *heavy = Heavy(50, Some(user("bob"))));
    assert_eq!(
        (of("alice"), of("bob")),
        (None, Some(2 * (1 + ENTRY) + 150))
    );
    kept.insert("a".into(), Heavy(7, Some(user("alice"))));
    kept.remove("b");
    assert_eq!((of("alice"), of("bob")), (Some(1 + ENTRY + 7), None));
    assert_eq!(budget.largest(), Some((user("alice"), 1 + ENTRY + 7)));
    drop(kept);
    assert_eq!((of("alice"), budget.used()), (None, 0));
}

fn newcomer(by: &str, after: usize) -> Growth {
    Growth::of(None, after, &user(by))
}

fn grown(owner: &str, before: usize, after: usize) -> Growth {
    Growth::of(Some((before, Some(&user(owner)))), after, &user(owner))
}

#[test]
fn a_group_gets_a_quarter_and_newcomers_not_the_last_eighth() {
    let budget = Budget::new(8000);
    let comes = |group, after| budget.reserve(group, &newcomer("a", after)).is_ok();
    let grows = |group, before, after| budget.reserve(group, &grown("a", before, after)).is_ok();
    assert!(comes(0, 1750));
    assert!(!comes(0, 1751));
    assert!(comes(1000, 750));
    assert!(!comes(1000, 751));
    assert!(grows(1750, 1750, 2000));
    assert!(!grows(1750, 1750, 2001));
    assert!(grows(9000, 100, 100), "who does not grow is never refused");
    assert!(grows(9000, 100, 50));
    assert_eq!(budget.used(), 0, "refused or dropped, nothing stays");
}

#[test]
fn a_principal_gets_half_of_what_others_leave() {
    let budget = Budget::new(8000);
    let reserve = |growth: Growth| budget.reserve(0, &growth);
    let full = |limit| Some(GroupError::MembersFull { limit });
    // Of his 4,000, the last eighth is for members that are there.
    let his = [1750, 1750].map(|after| reserve(newcomer("mallory", after)).expect("room"));
    assert_eq!(reserve(newcomer("mallory", 1)).err(), full(4000));
    let more = reserve(grown("mallory", 10, 510)).expect("as members grow");
    assert_eq!(reserve(grown("mallory", 10, 11)).err(), full(4000));
    // She gets half of the rest, in which he has no part.
    let hers = reserve(newcomer("alice", 1750)).expect("room");
    assert_eq!(reserve(newcomer("alice", 1)).err(), full(2000));
    let grows = reserve(grown("alice", 1750, 2000)).expect("as members grow");
    assert!(reserve(newcomer("bob", 875)).is_ok());
    drop((his, more, hers, grows));
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_is_nobodys_counts_as_his_who_wants_more() {
    let budget = Budget::new(8000);
    let reserve = |growth: Growth| budget.reserve(0, &growth);
    let mut kept = Kept::default();
    kept.insert("l".into(), Heavy(1600 - ENTRY - 1, None));
    kept.attach(&budget);
    let again = |growth| reserve(growth).err() == Some(GroupError::MembersUnheard);
    // Of his 4,000 the 1,600 may be a part.
    let his = [1000, 1400].map(|after| reserve(grown("mallory", 0, after)).expect("room"));
    assert!(again(grown("mallory", 0, 1)));
    assert!(again(grown("mallory", 0, 1600)));
    let most = GroupError::MembersFull { limit: 4000 };
    assert_eq!(reserve(grown("mallory", 0, 1601)).err(), Some(most));
    // Of the 2,450 that newcomers of hers get as well.
    assert!(reserve(newcomer("alice", 850)).is_ok());
    assert!(again(newcomer("alice", 851)));
    drop(his);
    // However much there is of it, somebody who has nothing gets something.
    kept.insert("m".into(), Heavy(4000 - ENTRY - 1, None));
    let a_little = share(8000, 5600) / UNHEARD_SHARE;
    assert!(reserve(grown("bob", 0, a_little)).is_ok());
    assert!(again(grown("bob", 0, a_little + 1)));
    drop(kept);
    assert_eq!(budget.used(), 0);
}

#[test]
fn who_makes_a_member_grow_takes_it_over() {
    let [mallory, alice] = ["mallory", "alice"].map(user);
    let of = |owner, after| Growth::of(Some((100, owner)), after, &mallory);
    let shape = |growth: Growth| (growth.owner, growth.bytes, growth.owed);
    assert_eq!(shape(of(Some(&mallory), 150)), (mallory.clone(), 50, 50));
    assert_eq!(shape(of(Some(&alice), 150)), (mallory.clone(), 50, 150));
    assert_eq!(shape(of(Some(&alice), 100)), (alice.clone(), 0, 0));
    assert_eq!(shape(of(None, 100)), (mallory.clone(), 0, 0));
    assert_eq!(shape(of(None, 150)), (mallory.clone(), 50, 150));
}
