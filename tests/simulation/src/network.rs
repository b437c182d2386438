//! What becomes of each request on its way to the server, and of the answer.

use crate::chance::Fault;
use crate::cluster::{Reply, Verb};
use crate::event::{Event, Request};
use crate::history::History;
use crate::setting::{Faults, Kill};
use oaat_operator::cluster::ClusterError;

impl History<'_> {
    /// Decides what becomes of a request.
    pub(crate) fn sets_out(&mut self, request: Request) {
        let there = self.chance.number(1..10);
        let back = self.chance.number(1..10);
        let fault = self.chance.fault(self.faults.on_the_way());
        if request.verb.writes() {
            self.writes += 1;
            let (now, kill) = (self.writes, self.kill);
            if kill == Some(Kill::Before(now)) {
                return self.killed_before(&request, 1_000);
            }
            if kill == Some(Kill::After(now)) {
                return self.killed_after(request, there, 1_000);
            }
        }
        match fault {
            Some(fault) => self.goes_wrong(request, there, back, fault),
            None => self.arrives_in(there, request, Some(back)),
        }
    }

    fn goes_wrong(&mut self, request: Request, there: u64, back: u64, mut fault: Fault) {
        let number = fault.number;
        let kind = self.faults.of_request(&mut fault);
        self.tell(|| format!("fault {number} (kind {kind}) on {request}"));
        match kind {
            // Slow there, or slow back.
            0 => {
                let (there, back) = (fault.within(1..15_000), fault.within(1..15_000));
                self.arrives_in(there, request, Some(back));
            }
            // Never arrives.
            1 => {
                let after = fault.within(1..15_000);
                self.fails_in(after, &request, "lost");
            }
            // Arrives after its sender has given up.
            2 => {
                let after = fault.within(1..15_000);
                let there = after + fault.within(0..60_000);
                self.fails_in(after, &request, "too late");
                self.arrives_in(there, request, None);
            }
            // The answer is lost.
            3 => {
                let after = there + fault.within(0..15_000);
                self.fails_in(after, &request, "no answer");
                self.arrives_in(there, request, None);
            }
            // Arrives twice, and the first or the second answer is the one that is heard.
            4 | 7 => {
                let twice = there + fault.within(0..20_000);
                let opens = matches!(*request.verb, Verb::OpenGate { .. });
                let first = kind == 4 || opens && self.faults != Faults::Repeated;
                let (first, second) = match first {
                    true => (Some(back), None),
                    false => (None, Some(back)),
                };
                self.arrives_in(there, request.clone(), first);
                self.arrives_in(twice, request, second);
            }
            // The server is busy, or at fault.
            5 => self.fails_in(there + back, &request, "429 or 500"),
            // Its sender is killed with the request not yet made, or with its answer unread.
            8 => self.killed_before(&request, fault.within(0..20_000)),
            9 => self.killed_after(request, there, fault.within(0..20_000)),
            // The server refuses.
            _ => {
                let refusal = match *request.verb {
                    Verb::CreatePod(_) => ClusterError::Rejected {
                        code: 403,
                        message: "exceeded quota".into(),
                    },
                    Verb::WriteStatus { .. } => ClusterError::Conflict("somebody else".into()),
                    _ => ClusterError::Unavailable("503".into()),
                };
                self.answer_in(there + back, &request, Err(refusal));
            }
        }
    }

    fn arrives_in(&mut self, later: u64, request: Request, back: Option<u64>) {
        self.at(later, Event::Arrives(Box::new(request), back));
    }

    fn answer_in(&mut self, later: u64, to: &Request, reply: Reply) {
        let event = Event::Answers(to.replica, to.life, to.call, Box::new(reply));
        self.at(later, event);
    }

    fn fails_in(&mut self, later: u64, request: &Request, words: &str) {
        let error = ClusterError::Unavailable(words.into());
        self.answer_in(later, request, Err(error));
    }

    fn killed_before(&mut self, request: &Request, down: u64) {
        self.tell(|| format!("about to {request}"));
        self.crash(request.replica, down);
    }

    fn killed_after(&mut self, mut request: Request, there: u64, down: u64) {
        request.fatal = Some(down);
        self.arrives_in(there, request, None);
    }

    pub(crate) fn arrives(&mut self, request: &Request, back: Option<u64>) {
        let reply = self.world.apply(request);
        self.tell(|| {
            let outcome = match &reply {
                Ok(_) => String::new(),
                Err(error) => format!(": {error}"),
            };
            format!("{request}{outcome}")
        });
        if let Some(back) = back {
            self.answer_in(back, request, reply);
        }
        let sender = &self.replicas[request.replica];
        if let Some(down) = request.fatal
            && sender.alive
            && sender.life == request.life
        {
            self.crash(request.replica, down);
        }
    }
}
