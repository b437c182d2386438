//! What becomes of each request on its way to the server, and of the answer.

use crate::cluster::{Answer, Verb};
use crate::event::Event;
use crate::history::History;
use crate::mutation::Mutation;
use oaat_operator::cluster::ClusterError;

impl History<'_> {
    /// Decides what becomes of a request.
    pub(crate) fn sets_out(&mut self, replica: usize, life: u64, call: u64, verb: Verb) {
        let there = self.chance.number(1..10);
        let back = self.chance.number(1..10);
        let Some(mut fault) = self.chance.fault(25) else {
            return self.at(
                there,
                Event::Arrives(replica, life, call, Box::new(verb), Some(back)),
            );
        };
        let number = fault.number;
        let broken = |words: &str| Box::new(Err(ClusterError::Unavailable(words.into())));
        let kind = fault.within(0..7);
        self.tell(|| {
            format!(
                "fault {number} (kind {kind}) on {} of {replica}",
                name(&verb)
            )
        });
        let verb = Box::new(verb);
        match kind {
            // Slow there, or slow back.
            0 => {
                let (there, back) = (fault.within(1..15_000), fault.within(1..15_000));
                let event = Event::Arrives(replica, life, call, verb, Some(back));
                self.at(there, event);
            }
            // Never arrives.
            1 => {
                let after = fault.within(1..15_000);
                self.at(after, Event::Answers(replica, life, call, broken("lost")));
            }
            // Arrives after its sender has given up.
            2 => {
                let after = fault.within(1..15_000);
                let there = after + fault.within(0..60_000);
                self.at(
                    after,
                    Event::Answers(replica, life, call, broken("too late")),
                );
                self.at(there, Event::Arrives(replica, life, call, verb, None));
            }
            // The answer is lost.
            3 => {
                let after = there + fault.within(0..15_000);
                self.at(there, Event::Arrives(replica, life, call, verb, None));
                self.at(
                    after,
                    Event::Answers(replica, life, call, broken("no answer")),
                );
            }
            // Arrives twice.
            4 => {
                let twice = there + fault.within(0..20_000);
                let again = Event::Arrives(replica, life, call, verb.clone(), None);
                self.at(there, Event::Arrives(replica, life, call, verb, Some(back)));
                self.at(twice, again);
            }
            // The server is busy, or at fault.
            5 => self.at(
                there + back,
                Event::Answers(replica, life, call, broken("429 or 500")),
            ),
            // The server refuses.
            _ => {
                let refusal = match *verb {
                    Verb::CreatePod(_) => ClusterError::Rejected {
                        code: 403,
                        message: "exceeded quota".into(),
                    },
                    Verb::WriteStatus { .. } => ClusterError::Conflict("somebody else".into()),
                    _ => ClusterError::Unavailable("503".into()),
                };
                let reply = Box::new(Err(refusal));
                self.at(there + back, Event::Answers(replica, life, call, reply));
            }
        }
    }

    pub(crate) fn arrives(
        &mut self,
        replica: usize,
        life: u64,
        call: u64,
        verb: &Verb,
        back: Option<u64>,
    ) {
        let this = &mut self.replicas[replica];
        let second = self.world.mutation == Some(Mutation::NoSecondRead) && this.life == life;
        let known = match verb {
            Verb::Group if second => this.first_read.clone(),
            Verb::WriteStatus { .. } => {
                this.first_read = None;
                None
            }
            _ => None,
        };
        let reply = match known {
            Some(group) => Ok(Answer::Group(group)),
            None => self.world.apply(replica, verb, &this.listed),
        };
        if let Ok(Answer::Group(group)) = &reply {
            self.replicas[replica].first_read = Some(group.clone());
        }
        self.tell(|| {
            let outcome = match &reply {
                Ok(_) => String::new(),
                Err(error) => format!(": {error}"),
            };
            format!("{} of {replica}{outcome}", name(verb))
        });
        if let Some(back) = back {
            self.at(back, Event::Answers(replica, life, call, Box::new(reply)));
        }
    }
}

/// A request in a few words.
fn name(verb: &Verb) -> String {
    match verb {
        Verb::Group => "read group".into(),
        Verb::Pods { .. } => "list pods".into(),
        Verb::Pod(name) => format!("read pod {name}"),
        Verb::NamespaceEnds => "read namespace".into(),
        Verb::WriteStatus { version, status } => match &status["current"] {
            serde_json::Value::Null if status.get("current").is_some() => {
                format!("write at {version}: no run in progress")
            }
            serde_json::Value::Null => format!("write at {version}"),
            current => format!(
                "write at {version}: run {} in {}",
                current["run"], current["podUid"]
            ),
        },
        Verb::CreatePod(pod) => {
            format!(
                "create {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        }
        Verb::OpenGate { uid, .. } => format!("open {uid}"),
        Verb::DeletePod { uid, .. } => format!("delete {uid}"),
    }
}
