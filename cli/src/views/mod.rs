//! What the commands show about groups. All of it is computed from an OaatGroup and the current
//! time.

mod condition;
mod count;
mod duration;
mod group;
mod history;
mod item_state;
mod late;
mod page;
mod policy_in_effect;
mod suspension;
mod table;
#[cfg(test)]
pub(crate) mod test_groups;
mod why;

pub(crate) use count::counted;
pub(crate) use duration::{from_now, short};
pub(crate) use group::{Detail, GroupView, UnreadableGroup, detail, summary};
pub(crate) use history::{history_rows, history_table};
pub(crate) use page::{GroupPage, GroupRow};
pub(crate) use policy_in_effect::PolicyInEffect;
pub(crate) use suspension::{SUSPENDED_BY, SUSPENSION_REASON, Suspension};
pub(crate) use table::table;
pub(crate) use why::why;
