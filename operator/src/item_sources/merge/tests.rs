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

fn reading(name: &str, update: SourceUpdate) -> SourceReading {
    SourceReading {
        name: name.into(),
        source: format!("ConfigMap {name}, key items"),
        definition: "d".into(),
        update,
        ..SourceReading::default()
    }
}

fn read(name: &str, list: &[&str]) -> SourceReading {
    reading(name, SourceUpdate::Read(NOW, Ok(names(list))))
}

fn failed(name: &str, error: &str) -> SourceReading {
    reading(name, SourceUpdate::Read(NOW, Err(error.into())))
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
fn lists_are_merged_in_order_without_repetitions() {
    let readings = [read("one", &["b", "a"]), read("two", &["c", "b"])];
    let (items, listing) = merge(&names(&["a"]), &[], &readings);
    assert_eq!(items, names(&["a", "b", "c"]));
    assert_eq!(listing.sources[1].items, names(&["c", "b"]));
    let (ready, reason, message) = listing.ready.unwrap();
    assert!(ready && reason == "Listed", "{message}");
    assert!(
        message.contains("one: 2 items from ConfigMap one, key items, read 1970-"),
        "{message}"
    );
}

#[test]
fn failed_source_keeps_its_last_list() {
    let before = [known("one", &["a"], NOW.minus(RULES.refresh))];
    let (items, listing) = merge(&[], &before, &[failed("one", "no answer")]);
    assert_eq!(items, names(&["a"]));
    assert_eq!(listing.sources[0].time, before[0].time);
    assert_eq!(listing.sources[0].tried, Some(NOW));
    let (ready, reason, message) = listing.ready.unwrap();
    assert!(!ready && reason == "SourceFailed");
    assert!(
        message.contains(
            "no answer; the list from 1970-01-12T13:36:40Z, with 1 item, stays in effect"
        ),
        "{message}"
    );

    let (items, listing) = merge(&[], &[], &[failed("one", "no answer")]);
    assert!(items.is_empty());
    assert!(
        listing
            .ready
            .unwrap()
            .2
            .contains("no answer; no list has been read yet")
    );
    let (_, listing) = merge(
        &[],
        &[],
        &[reading(
            "one",
            SourceUpdate::Pending("pod p is running".into()),
        )],
    );
    let (ready, reason, message) = listing.ready.unwrap();
    assert!(
        !ready && reason == "Listing" && message.contains("not been read yet (pod p is running)"),
        "{message}"
    );
}

#[test]
fn watched_list_has_the_time_of_its_last_change() {
    let watched = |at, list| reading("one", SourceUpdate::Watched(at, Ok(names(list))));
    let (_, first) = merge(&[], &[], &[watched(NOW, &["a"])]);
    let (_, same) = merge(
        &[],
        &first.sources,
        &[watched(NOW.plus(HISTORY_RETENTION), &["a"])],
    );
    assert_eq!(same.sources, first.sources);
    // The same applies to a list of which a part is left out.
    let many: Vec<String> = (0..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    let (_, first_of_many) = merge(&many, &[], &[watched(NOW, &["a", "i1"])]);
    let (_, same) = merge(
        &many,
        &first_of_many.sources,
        &[watched(NOW.plus(HISTORY_RETENTION), &["a", "i1"])],
    );
    assert_eq!(same.sources, first_of_many.sources);
    // A repeated problem without a pod does not change the status.
    let failed = |at| reading("one", SourceUpdate::Read(at, Err("no image".into())));
    let (_, first_failure) = merge(&[], &[], &[failed(NOW)]);
    let (_, same) = merge(
        &[],
        &first_failure.sources,
        &[failed(NOW.plus(HISTORY_RETENTION))],
    );
    assert_eq!(same.sources, first_failure.sources);
    // After a pod was read, its uid is written, and so are the times.
    let mut printed = reading(
        "one",
        SourceUpdate::Read(NOW.plus(HISTORY_RETENTION), Ok(names(&["a"]))),
    );
    printed.pod = Some("p".into());
    let (_, printed) = merge(&[], &first.sources, &[printed]);
    assert_eq!(printed.sources[0].tried, Some(NOW.plus(HISTORY_RETENTION)));
    let (_, other) = merge(
        &[],
        &first.sources,
        &[watched(NOW.plus(HISTORY_RETENTION), &["b"])],
    );
    assert_eq!(other.sources[0].time, Some(NOW.plus(HISTORY_RETENTION)));
}

#[test]
fn items_beyond_the_limits_are_left_out_and_reported() {
    let many: Vec<String> = (0..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    let (items, listing) = merge(&many, &[], &[read("one", &["i0", "more", "i1"])]);
    assert_eq!(items, many);
    assert_eq!(listing.sources[0].items, names(&["i0", "i1"]));
    let (ready, reason, message) = listing.ready.clone().unwrap();
    assert!(!ready && reason == "TooManyItems", "{message}");
    assert!(message.contains("2 items (1 left out"), "{message}");
    // This is not a failure: the source is read at its usual time, and its entry stays unchanged.
    let due = super::due(listing.sources.first(), "d", RULES, NOW);
    assert_eq!(due, NOW.plus(RULES.refresh));
    let (_, later) = merge(
        &many,
        &listing.sources,
        &[reading("one", SourceUpdate::Nothing)],
    );
    assert_eq!(later.sources, listing.sources);
}

#[test]
fn source_is_due_after_its_interval() {
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
        tried: Some(NOW.plus(HISTORY_RETENTION)),
        ..known(0, None)
    };
    assert_eq!(due(&future, "d"), NOW);
}

/// Returns a status with these items, each with three runs.
fn status(items: &[&str]) -> OaatGroupStatus {
    let mut status = OaatGroupStatus::default();
    for name in items {
        let item: ItemStatus = serde_json::from_value(json!({ "item": name, "runs": 3 })).unwrap();
        status.items.insert((*name).into(), item);
    }
    status
}

#[test]
fn item_missing_from_its_source_is_kept_for_a_day() {
    let mut group = status(&["stays", "listed", "taken-off"]);
    let before = HashSet::from(["listed".to_owned(), "stays".to_owned()]);
    let items = names(&["stays"]);
    let next = update_items(&mut group, &items, &before, NOW);
    assert_eq!(next, Some(NOW.plus(HISTORY_RETENTION)));
    assert_eq!(group.items.keys().collect::<Vec<_>>(), ["listed", "stays"]);
    let missing = group.items["listed"].clone();
    assert_eq!(
        (missing.state, missing.missing_since),
        (ItemState::Held, Some(NOW))
    );

    // Hours later the item still exists, and its history is restored if it is listed again.
    let later = NOW.plus(HISTORY_RETENTION / 2);
    let mut back = group.clone();
    update_items(&mut back, &items, &HashSet::new(), later);
    assert_eq!(back.items["listed"].missing_since, Some(NOW));
    update_items(
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

    let next = update_items(
        &mut group,
        &items,
        &HashSet::new(),
        NOW.plus(HISTORY_RETENTION),
    );
    assert_eq!((next, group.items.len()), (None, 1));
}

#[test]
fn items_missing_longest_are_removed_first() {
    let mut group = status(&["old", "young"]);
    for (name, ago) in [("old", 20), ("young", 10)] {
        group.items.get_mut(name).unwrap().missing_since =
            Some(NOW.minus(Duration::from_secs(ago)));
    }
    let many: Vec<String> = (1..MAX_ITEMS).map(|i| format!("i{i}")).collect();
    update_items(&mut group, &many, &HashSet::new(), NOW);
    assert!(group.items.contains_key("young") && !group.items.contains_key("old"));
    assert_eq!(group.items.len(), MAX_ITEMS);
}

proptest! {
    /// The items in effect are those of the spec, then those of the sources, each once.
    #[test]
    fn merge_keeps_every_item_once(
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
