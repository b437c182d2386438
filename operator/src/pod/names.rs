//! Names and labels of pods: valid for Kubernetes whatever an item is called, and
//! different for different items.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Label: the group. Pods of a group are found by it, and a pod that bears it
/// blocks the group while it may run, whoever made it.
pub const GROUP: &str = "oaat.kawaja.net/group";
/// Label: the item, made fit for a label. Annotation: the exact item.
pub const ITEM: &str = "oaat.kawaja.net/item";
/// Label: the number of the run.
pub const RUN: &str = "oaat.kawaja.net/run";
/// Label: the group whose list of items the pod prints. It is no run, so it bears not [`GROUP`].
/// Annotation: the exact name.
pub const LISTER: &str = "oaat.kawaja.net/lists-items-of";
/// Annotation: the definition of the source that a pod prints the list of.
pub const DEFINITION: &str = "oaat.kawaja.net/definition";
/// Label for the item on pods of the original operator.
pub const ORIGINAL_ITEM: &str = "oaat-name";
/// The scheduling gate that keeps a pod from running until it is the group's
/// current one.
pub const GATE: &str = "oaat.kawaja.net/claim";
/// Label: who manages the pod.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`], field manager, and the name of this program.
pub const OPERATOR: &str = "oaat-operator";

/// Longest label value and longest DNS label.
const LABEL: usize = 63;

/// The first `digits` hex digits of the sha256 of a text.
pub(crate) fn hash(text: &str, digits: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// The value of the group label: the name itself where it fits (a group's name may
/// be longer than a label).
pub fn group_label(name: &str) -> String {
    if name.len() <= LABEL {
        return name.to_owned();
    }
    let head = &name[..name.floor_char_boundary(LABEL - 17)];
    let head = head.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    format!("{head}-{}", hash(name, 16))
}

/// The value of the item label: the item itself where it is a label value already,
/// else what is left of it with a hash of the whole.
pub fn item_label(item: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if item.len() <= LABEL
        && item.chars().all(fits)
        && ends(item.chars().next())
        && ends(item.chars().next_back())
    {
        return item.to_owned();
    }
    let kept = sanitised(item, fits, 50);
    join(&kept, &hash(item, 10))
}

/// The name of a pod: readable, a valid DNS label, and never used before thanks to
/// the nonce (ten characters of a to z and 0 to 9).
pub fn pod_name(group: &str, item: &str, nonce: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let group = sanitised(&group.to_lowercase(), fits, 28);
    let item = sanitised(&item.to_lowercase(), fits, 22);
    join(&join(&group, &item), nonce)
}

/// The name of the pod that prints the list of a source: always the same, so that there is one at
/// a time, and a valid DNS label.
pub fn lister_name(group: &str, source: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let head = sanitised(&group.to_lowercase(), fits, 28);
    let tail = sanitised(&source.to_lowercase(), fits, 16);
    // Neither part may be cut where another begins.
    let both = hash(&format!("{group}/{source}"), 10);
    join(&join(&head, &join("items", &tail)), &both)
}

/// That a group controls a pod: it goes when the group does.
pub fn owner(group: &str, uid: &str) -> Value {
    json!([{
        "apiVersion": "kawaja.net/v1",
        "kind": "OaatGroup",
        "name": group,
        "uid": uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}

/// What is allowed of a text, anything else as dashes, cut to a length, without
/// dashes at its ends.
fn sanitised(text: &str, fits: impl Fn(char) -> bool, length: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= length {
            break;
        }
        if fits(c) {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

fn join(head: &str, tail: &str) -> String {
    match head {
        "" => tail.to_owned(),
        head => format!("{head}-{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label_value(text: &str) -> bool {
        let bytes = text.as_bytes();
        let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        bytes.len() <= LABEL
            && end(bytes.first())
            && end(bytes.last())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    }

    #[test]
    fn plain_items_are_their_own_label() {
        for item in ["item1", "home.tar", "A_b-c"] {
            assert_eq!(item_label(item), item);
        }
    }

    #[test]
    fn items_that_look_alike_have_different_labels() {
        let items = ["a b", "a/b", "a-b", "/a-b", "a-b-", "ä-b", "a--b"];
        let labels: std::collections::BTreeSet<_> = items.map(item_label).into();
        assert_eq!(labels.len(), items.len());
    }

    #[test]
    fn long_groups_with_a_common_head_have_different_labels() {
        let long = |tail: &str| group_label(&format!("{}{tail}", "g".repeat(200)));
        assert_ne!(long("1"), long("2"));
        assert_eq!(group_label(&"g".repeat(63)), "g".repeat(63));
    }

    proptest! {
        #[test]
        fn whatever_the_item_its_label_is_valid(item in "\\PC{1,300}") {
            prop_assert!(label_value(&item_label(&item)), "{}", item_label(&item));
        }

        #[test]
        fn whatever_the_names_a_pods_name_is_a_dns_label(
            group in "[a-z0-9]([-.a-z0-9]{0,250}[a-z0-9])?",
            item in "\\PC{1,300}",
        ) {
            let name = pod_name(&group, &item, "0123456789");
            prop_assert!(label_value(&name), "{name}");
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert!(label_value(&group_label(&group)));
            let lister = lister_name(&group, &item);
            prop_assert!(label_value(&lister) && !lister.contains(['_', '.']), "{lister}");
        }
    }
}
