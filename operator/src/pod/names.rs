//! Names and labels of pods. They are valid for every name of an item, and different for different
//! items.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The label with the group. The operator finds the pods of a group by it. Any pod with the label
/// blocks the group while it may run, regardless of what created it.
pub const GROUP: &str = "oaat.kawaja.net/group";
/// The label with the item, converted to a label value, and the annotation with the exact item.
pub const ITEM: &str = "oaat.kawaja.net/item";
/// The annotation with the containers that decide when the run ends, separated by commas.
pub const COMPLETION_CONTAINERS: &str = "oaat.kawaja.net/completion-containers";
/// The label with the number of the run.
pub const RUN: &str = "oaat.kawaja.net/run";
/// The label of a pod that prints a list of items, with the group, and the annotation with the
/// exact name of the group. Such a pod is not a run, so it does not have the label [`GROUP`].
pub const LISTER: &str = "oaat.kawaja.net/lists-items-of";
/// The annotation with the definition of the source whose list a pod prints.
pub const DEFINITION: &str = "oaat.kawaja.net/definition";
/// The label of the original operator for the name of the group.
pub const ORIGINAL_GROUP: &str = "parent-name";
/// The label with the item on pods of the original operator.
pub const ORIGINAL_ITEM: &str = "oaat-name";
/// The scheduling gate that keeps a pod from running until it is the group's current pod.
pub const GATE: &str = "oaat.kawaja.net/claim";
/// The label with the manager of the pod.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], the field manager, and the name of this program.
pub const OPERATOR: &str = "oaat-operator";

/// The maximum length of a label value and of a DNS label.
const LABEL: usize = 63;

/// Returns the first `digits` hex digits of the sha256 of a text.
pub(crate) fn hash(text: &str, digits: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// Returns the value of the label [`GROUP`]: the name of the group, shortened with a hash if it is
/// longer than a label value.
pub fn group_label(name: &str) -> String {
    if name.len() <= LABEL {
        return name.to_owned();
    }
    let head = &name[..name.floor_char_boundary(LABEL - 17)];
    let head = head.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    format!("{head}-{}", hash(name, 16))
}

/// Returns the value of the label [`ITEM`]: the item if it is a valid label value, or its valid
/// characters with a hash of the item.
pub fn item_label(item: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let allowed_at_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if item.len() <= LABEL
        && item.chars().all(allowed)
        && allowed_at_end(item.chars().next())
        && allowed_at_end(item.chars().next_back())
    {
        return item.to_owned();
    }
    join(&sanitize(item, allowed, 50), &hash(item, 10))
}

/// Returns the name of a pod. It is a readable, valid DNS label. It is unique because of the nonce,
/// ten characters of a to z and 0 to 9.
pub fn pod_name(group: &str, item: &str, nonce: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let group = sanitize(&group.to_lowercase(), allowed, 28);
    let item = sanitize(&item.to_lowercase(), allowed, 22);
    join(&join(&group, &item), nonce)
}

/// Returns the name of the pod that prints the list of a source, a valid DNS label. It is always
/// the same, so that only one such pod exists at a time.
pub fn lister_name(group: &str, source: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let head = sanitize(&group.to_lowercase(), allowed, 28);
    let tail = sanitize(&source.to_lowercase(), allowed, 16);
    // The parts are shortened, so only the hash distinguishes all pairs.
    let both = hash(&format!("{group}/{source}"), 10);
    join(&join(&head, &join("items", &tail)), &both)
}

/// Returns the owner references of a pod, which make the group its controller.
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

/// Replaces sequences of characters that are not allowed with a dash, shortens the text to `length`
/// bytes, and removes dashes at both ends.
fn sanitize(text: &str, allowed: impl Fn(char) -> bool, length: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= length {
            break;
        }
        if allowed(c) {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// Joins two parts with a dash, unless the first is empty.
fn join(head: &str, tail: &str) -> String {
    if head.is_empty() {
        tail.to_owned()
    } else {
        format!("{head}-{tail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_label_value(text: &str) -> bool {
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
    fn item_label_of_a_label_value_is_unchanged() {
        for item in ["item1", "home.tar", "A_b-c"] {
            assert_eq!(item_label(item), item);
        }
    }

    #[test]
    fn item_labels_of_similar_items_differ() {
        let items = ["a b", "a/b", "a-b", "/a-b", "a-b-", "ä-b", "a--b"];
        let labels: std::collections::BTreeSet<_> = items.map(item_label).into();
        assert_eq!(labels.len(), items.len());
    }

    #[test]
    fn group_labels_of_long_names_with_a_common_prefix_differ() {
        let long = |tail: &str| group_label(&format!("{}{tail}", "g".repeat(200)));
        assert_ne!(long("1"), long("2"));
        assert_eq!(group_label(&"g".repeat(63)), "g".repeat(63));
    }

    proptest! {
        #[test]
        fn item_label_is_valid_for_every_item(item in "\\PC{1,300}") {
            prop_assert!(is_label_value(&item_label(&item)), "{}", item_label(&item));
        }

        #[test]
        fn pod_name_is_a_dns_label_for_all_names(
            group in "[a-z0-9]([-.a-z0-9]{0,250}[a-z0-9])?",
            item in "\\PC{1,300}",
        ) {
            let name = pod_name(&group, &item, "0123456789");
            prop_assert!(is_label_value(&name), "{name}");
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert!(is_label_value(&group_label(&group)));
            let lister = lister_name(&group, &item);
            prop_assert!(is_label_value(&lister) && !lister.contains(['_', '.']), "{lister}");
        }
    }
}
