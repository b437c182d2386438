//! Determines what happens to each request and to its response.

use crate::config::Kill;
use crate::event::{Event, Request};
use crate::faults::{FaultSet, RequestFault};
use crate::history::History;
use crate::randomness::Fault;
use crate::replica_client::{RequestResult, Verb};
use oaat_operator::cluster::ClusterError;

impl History<'_> {
    /// Sends a request, possibly with a fault.
    pub(crate) fn send(&mut self, request: Request) {
        let request_delay = self.random.draw(1..10);
        let response_delay = self.random.draw(1..10);
        let fault = self.random.fault(self.faults.request_faults_per_1000());
        if request.verb.writes() {
            self.writes += 1;
            let (now, kill) = (self.writes, self.kill);
            if kill == Some(Kill::Before(now)) {
                return self.kill_before(&request, 1_000);
            }
            if kill == Some(Kill::After(now)) {
                return self.kill_after(request, request_delay, 1_000);
            }
        }
        match fault {
            Some(fault) => self.inject_request_fault(request, request_delay, response_delay, fault),
            None => self.deliver_after(request_delay, request, Some(response_delay)),
        }
    }

    fn inject_request_fault(
        &mut self,
        request: Request,
        request_delay: u64,
        response_delay: u64,
        mut fault: Fault,
    ) {
        let number = fault.number;
        let kind = self.faults.draw_request_fault(&mut fault);
        self.trace(|| format!("fault {number}: {kind:?} on {request}"));
        match kind {
            RequestFault::Slow => {
                let (request_delay, response_delay) =
                    (fault.draw(1..15_000), fault.draw(1..15_000));
                self.deliver_after(request_delay, request, Some(response_delay));
            }
            RequestFault::Lost => {
                let after = fault.draw(1..15_000);
                self.fail_after(after, &request, "lost");
            }
            RequestFault::Late => {
                let after = fault.draw(1..15_000);
                let request_delay = after + fault.draw(0..60_000);
                self.fail_after(after, &request, "timed out");
                self.deliver_after(request_delay, request, None);
            }
            RequestFault::ResponseLost => {
                let after = request_delay + fault.draw(0..15_000);
                self.fail_after(after, &request, "no response");
                self.deliver_after(request_delay, request, None);
            }
            RequestFault::RepeatedFirstResponse | RequestFault::RepeatedSecondResponse => {
                let second_delay = request_delay + fault.draw(0..20_000);
                let opens = matches!(*request.verb, Verb::OpenGate { .. });
                let is_first = kind == RequestFault::RepeatedFirstResponse
                    || opens && self.faults != FaultSet::RepeatedOpen;
                let (first, second) = if is_first {
                    (Some(response_delay), None)
                } else {
                    (None, Some(response_delay))
                };
                self.deliver_after(request_delay, request.clone(), first);
                self.deliver_after(second_delay, request, second);
            }
            RequestFault::ServerError => {
                self.fail_after(request_delay + response_delay, &request, "429 or 500");
            }
            RequestFault::SenderKilledBefore => {
                self.kill_before(&request, fault.draw(0..20_000));
            }
            RequestFault::SenderKilledAfter => {
                self.kill_after(request, request_delay, fault.draw(0..20_000));
            }
            RequestFault::Rejected => {
                let error = match *request.verb {
                    Verb::CreatePod(_) => ClusterError::Rejected {
                        code: 403,
                        message: "exceeded quota".into(),
                    },
                    Verb::WriteStatus { .. } => {
                        ClusterError::Conflict("modified by another client".into())
                    }
                    _ => ClusterError::Unavailable("503".into()),
                };
                self.respond_after(request_delay + response_delay, &request, Err(error));
            }
        }
    }

    fn deliver_after(&mut self, request_delay: u64, request: Request, response_delay: Option<u64>) {
        let event = Event::RequestArrives(Box::new(request), response_delay);
        self.schedule(request_delay, event);
    }

    fn respond_after(&mut self, later: u64, to: &Request, reply: RequestResult) {
        let event = Event::ResponseArrives(to.replica, to.life, to.call, Box::new(reply));
        self.schedule(later, event);
    }

    fn fail_after(&mut self, later: u64, request: &Request, details: &str) {
        let error = ClusterError::Unavailable(details.into());
        self.respond_after(later, request, Err(error));
    }

    fn kill_before(&mut self, request: &Request, down: u64) {
        self.trace(|| format!("about to {request}"));
        self.crash(request.replica, down);
    }

    fn kill_after(&mut self, mut request: Request, request_delay: u64, down: u64) {
        request.kill_sender_for = Some(down);
        self.deliver_after(request_delay, request, None);
    }

    pub(crate) fn deliver(&mut self, request: &Request, response_delay: Option<u64>) {
        let reply = self.cluster.apply(request);
        self.trace(|| {
            let outcome = match &reply {
                Ok(_) => String::new(),
                Err(error) => format!(": {error}"),
            };
            format!("{request}{outcome}")
        });
        if let Some(response_delay) = response_delay {
            self.respond_after(response_delay, request, reply);
        }
        let sender = &self.replicas[request.replica];
        if let Some(down) = request.kill_sender_for
            && sender.alive
            && sender.life == request.life
        {
            self.crash(request.replica, down);
        }
    }
}
