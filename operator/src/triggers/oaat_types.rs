//! Handles type watch events.

use super::Triggers;
use crate::kube_cluster::WatchedType;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc::UnboundedSender;

impl Triggers {
    /// Handles an event of the watch on types: checks the type, and triggers the groups that use it.
    pub fn oaat_type(
        &self,
        event: &Event<WatchedType>,
        type_queue: &UnboundedSender<ObjectRef<WatchedType>>,
    ) {
        let (checked, changed) = {
            let mut state = self.state();
            match event {
                Event::Apply(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    let changed = state.record_type(&key, type_.resource_version());
                    (
                        vec![key.clone()],
                        if changed { vec![key] } else { Vec::new() },
                    )
                }
                Event::InitApply(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    if state.record_type(&key, type_.resource_version()) {
                        state.changed_types.push(key.clone());
                    }
                    state.listed_types.push(key);
                    return;
                }
                Event::Delete(type_) => {
                    let key = ObjectRef::from_obj(type_);
                    state.types.remove(&key);
                    (Vec::new(), vec![key])
                }
                Event::Init => {
                    state.types.begin_list();
                    state.listed_types.clear();
                    return;
                }
                Event::InitDone => {
                    let mut changed = std::mem::take(&mut state.changed_types);
                    changed.extend(state.types.end_list().into_keys());
                    (std::mem::take(&mut state.listed_types), changed)
                }
            }
        };
        for type_ in checked {
            let _ = type_queue.send(type_);
        }
        // Another shard may have checked a type after one of its groups was planned.
        for type_ in changed {
            let users = self
                .references
                .of_type(type_.namespace.as_deref(), &type_.name);
            users.into_iter().for_each(|group| self.trigger(group));
        }
    }
}
