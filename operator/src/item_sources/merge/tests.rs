use super::*;
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_000_000_000);
const RULES: SourceRules = SourceRules {
    refresh: Duration::from_secs(600),
    timeout: Duration::from_secs(30),
};

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn reading(name: &str, news: SourceUpdate) -> SourceReading {
    SourceReading {
        name: name.into(),
        source: format!("ConfigMap {name}, key items"),
        definition: "d".into(),
        news,
        ..SourceReading::default()
    }
}

fn read(name: &str, list: &[&str]) -> SourceReading {
    reading(name, SourceUpdate::Read(NOW, Ok(names(list))))
}

fn failed(name: &str, words: &str) -> SourceReading {
    reading(name, SourceUpdate::Read(NOW, Err(words.into())))
}

fn known(name: &str, list: &[&str], tried: Timestamp) -> ItemSource {
    ItemSource {
        name: name.into(),
        items: names(list),
        time: Some(tried),
        tried: Some(tried),
        definition: "d".into(),
        ..ItemSource::default()
    }
}

#[test]
fn the_lists_are_merged_in_order_and_each_name_counts_once() {
    let readings = [read("one", &["b", "a"]), read("two", &["c", "b"])];
    let (items, listing) = merge(&names(&["a"]), &[], &readings);
    assert_eq!(items, names(&["a", "b", "c"]));
    assert_eq!(listing.sources[1].items, names(&["c", "b"]));
    let (ready, reason, words) = listing.ready.unwrap();
    assert!(ready && reason == "Listed", "{words}");
    assert!(
        words.contains("one: 2 items from ConfigMap one, key items, read 1970-"),
        "{words}"
    );
}

#[test]
fn what_fails_keeps_the_list_before_it() {
    let before = [known("one", &["a"], NOW.minus(RULES.refresh))];
    let (items, listing) = merge(&[], &before, &[failed("one", "no answer")]);
    assert_eq!(items, names(&["a"]));
    assert_eq!(listing.sources[0].time, before[0].time);
    assert_eq!(listing.sources[0].tried, Some(NOW));
    let (ready, reason, words) = listing.ready.unwrap();
    assert!(!ready && reason == "SourceFailed");
    assert!(
        words.contains("no answer; the list of 1970-01-12T13:36:40Z stays in force, with 1 item"),
        "{words}"
    );

    let (items, listing) = merge(&[], &[], &[failed("one", "no answer")]);
    assert!(items.is_empty());
    assert!(
        listing
            .ready
            .unwrap()
            .2
            .contains("no answer; there is no list yet")
    );
    let (_, listing) = merge(
        &[],
        &[],
        &[reading("one", SourceUpdate::Busy("pod p prints it".into()))],
    );
    let (ready, reason, words) = listing.ready.unwrap();
    assert!(
        !ready && reason == "Listing" && words.contains("not been read yet (pod p prints it)"),
        "{words}"
    );
}

#[test]
fn a_list_that_is_followed_has_the_time_of_its_last_change() {
    let followed = |at, list| reading("one", SourceUpdate::Followed(at, Ok(names(list))));
    let (_, first) = merge(&[], &[], &[followed(NOW, &["a"])]);
    let (_, same) = merge(&[], &first.sources, &[followed(NOW.plus(KEPT), &["a"])]);
    assert_eq!(same.sources, first.sources);
    // Also one of which a part is left out.
    let many: Vec<String> = (0..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    let (_, first_of_many) = merge(&many, &[], &[followed(NOW, &["a", "i1"])]);
    let (_, same) = merge(
        &many,
        &first_of_many.sources,
        &[followed(NOW.plus(KEPT), &["a", "i1"])],
    );
    assert_eq!(same.sources, first_of_many.sources);
    // Nor is a problem that no pod had written down again.
    let failed = |at| reading("one", SourceUpdate::Read(at, Err("no image".into())));
    let (_, first_failure) = merge(&[], &[], &[failed(NOW)]);
    let (_, same) = merge(&[], &first_failure.sources, &[failed(NOW.plus(KEPT))]);
    assert_eq!(same.sources, first_failure.sources);
    // Of a pod that was read the uid is, and so is the time.
    let mut printed = reading("one", SourceUpdate::Read(NOW.plus(KEPT), Ok(names(&["a"]))));
    printed.pod = Some("p".into());
    let (_, printed) = merge(&[], &first.sources, &[printed]);
    assert_eq!(printed.sources[0].tried, Some(NOW.plus(KEPT)));
    let (_, other) = merge(&[], &first.sources, &[followed(NOW.plus(KEPT), &["b"])]);
    assert_eq!(other.sources[0].time, Some(NOW.plus(KEPT)));
}

#[test]
fn what_there_is_no_room_for_is_left_out_and_told() {
    let many: Vec<String> = (0..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    let (items, listing) = merge(&many, &[], &[read("one", &["i0", "more", "i1"])]);
    assert_eq!(items, many);
    assert_eq!(listing.sources[0].items, names(&["i0", "i1"]));
    let (ready, reason, words) = listing.ready.clone().unwrap();
    assert!(!ready && reason == "TooManyItems", "{words}");
    assert!(
        words.contains("2 items (and 1 for which there is no room"),
        "{words}"
    );
    // That is no failure: it is not tried again before its time, and stays as it was told.
    let again = super::due(listing.sources.first(), "d", RULES, NOW);
    assert_eq!(again, NOW.plus(RULES.refresh));
    let (_, later) = merge(
        &many,
        &listing.sources,
        &[reading("one", SourceUpdate::Nothing)],
    );
    assert_eq!(later.sources, listing.sources);
}

#[test]
fn a_source_is_read_when_it_is_due() {
    let known = |age: u64, problem: Option<&str>| ItemSource {
        problem: problem.map(Into::into),
        ..known("one", &[], NOW.minus(Duration::from_secs(age)))
    };
    let due = |source: &ItemSource, definition| due(Some(source), definition, RULES, NOW);
    assert_eq!(super::due(None, "d", RULES, NOW), NOW);
    assert_eq!(
        due(&known(10, None), "d"),
        NOW.plus(Duration::from_secs(590))
    );
    assert_eq!(due(&known(10, None), "other"), NOW);
    assert_eq!(
        due(&known(10, Some("no")), "d"),
        NOW.plus(Duration::from_secs(50))
    );
    let future = ItemSource {
        tried: Some(NOW.plus(KEPT)),
        ..known(0, None)
    };
    assert_eq!(due(&future, "d"), NOW);
}

/// A status with these items, each of which has run.
fn status(items: &[&str]) -> OaatGroupStatus {
    let mut status = OaatGroupStatus::default();
    for name in items {
        let item: ItemStatus = serde_json::from_value(json!({ "item": name, "runs": 3 })).unwrap();
        status.items.insert((*name).into(), item);
    }
    status
}

#[test]
fn what_a_source_has_no_more_is_kept_for_a_day_and_what_the_spec_has_no_more_is_not() {
    let mut group = status(&["stays", "listed", "taken-off"]);
    let before = HashSet::from(["listed".to_owned(), "stays".to_owned()]);
    let items = names(&["stays"]);
    let next = put_in_force(&mut group, &items, &before, NOW);
    assert_eq!(next, Some(NOW.plus(KEPT)));
    assert_eq!(group.items.keys().collect::<Vec<_>>(), ["listed", "stays"]);
    let missing = group.items["listed"].clone();
    assert_eq!(
        (missing.state, missing.missing_since),
        (ItemState::Held, Some(NOW))
    );

    // Hours later it is there still, and comes back as it was.
    let later = NOW.plus(KEPT / 2);
    let mut back = group.clone();
    put_in_force(&mut back, &items, &HashSet::new(), later);
    assert_eq!(back.items["listed"].missing_since, Some(NOW));
    put_in_force(
        &mut back,
        &names(&["stays", "listed"]),
        &HashSet::new(),
        later,
    );
    let returned = &back.items["listed"];
    assert_eq!((returned.runs, returned.missing_since), (Some(3), None));
    assert_eq!(
        (returned.state, &returned.message),
        (ItemState::Ready, &None)
    );

    let next = put_in_force(&mut group, &items, &HashSet::new(), NOW.plus(KEPT));
    assert_eq!((next, group.items.len()), (None, 1));
}

#[test]
fn those_that_went_first_make_room() {
    let mut group = status(&["old", "young"]);
    for (name, ago) in [("old", 20), ("young", 10)] {
        group.items.get_mut(name).unwrap().missing_since =
            Some(NOW.minus(Duration::from_secs(ago)));
    }
    let many: Vec<String> = (1..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    put_in_force(&mut group, &many, &HashSet::new(), NOW);
    assert!(group.items.contains_key("young") && !group.items.contains_key("old"));
    assert_eq!(group.items.len(), MAX_ITEMS);
}

proptest! {
    /// Whatever the lists, those in force are the spec's and then the sources', each once.
    #[test]
    fn nothing_is_lost_and_nothing_twice(
        own in proptest::collection::hash_set("[a-e]", 0..4),
        lists in proptest::collection::vec(proptest::collection::hash_set("[a-h]", 0..6), 0..4),
    ) {
        let own: Vec<String> = own.into_iter().collect();
        let readings: Vec<SourceReading> = lists
            .iter()
            .enumerate()
            .map(|(i, list)| reading(&i.to_string(), SourceUpdate::Read(NOW, Ok(list.iter().cloned().collect()))))
            .collect();
        let (items, _) = merge(&own, &[], &readings);
        prop_assert_eq!(&items[..own.len()], &own[..]);
        let distinct: HashSet<&String> = items.iter().collect();
        prop_assert_eq!(distinct.len(), items.len());
        let all: HashSet<&String> = own.iter().chain(lists.iter().flatten()).collect();
        prop_assert_eq!(distinct, all);
    }
}
