use super::*;
use crate::client::silent;
use crate::plan::tests::fixture;
use crate::plan::{AnsweredRequest, plan_group, policy_request};
use crate::policy_selection::PolicySelection;
use built_in_policies::DEFAULT_POLICY;
use oaat_api::ConditionStatus::{False, True, Unknown};
use oaat_api::validate::validate;
use oaat_api::{OaatGroupStatus, set_condition};
use policy_host::{Choice, Decision, Evaluation, Host, Limits};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The shadow policies of a process. The shadow of every group is the built-in policy `default`, for
/// which the tests use any policy.
struct Fixture {
    shadows: Shadows,
    queue: UnboundedReceiver<GroupRef>,
    metrics: Arc<Metrics>,
    host: Host,
}

impl Fixture {
    fn new() -> Self {
        let host = Host::new(Limits::default()).unwrap();
        let (sender, queue) = unbounded_channel();
        let config_maps = ConfigMaps::new(silent(), Counter::default());
        let compiling = host.clone();
        let compiler = Compiler::new(move |bytes| compiling.load(bytes, None));
        let deciding = PolicySources::new(config_maps.clone(), compiler.clone(), sender.clone());
        let (compiler, metrics) = (compiler.for_shadows(), Arc::<Metrics>::default());
        let shadows = Shadows::new(config_maps, deciding, compiler, sender, metrics.clone());
        Self {
            shadows,
            queue,
            metrics,
            host,
        }
    }

    fn documented(&self) -> Policy {
        self.host.load(DEFAULT_POLICY, None).unwrap()
    }

    fn hostile(&self, name: &str) -> Policy {
        let all = hostile_policies::all().unwrap();
        let found = all.into_iter().find(|policy| policy.name == name);
        self.host.load(&found.unwrap().bytes, None).unwrap()
    }

    fn record(&self, snapshot: &GroupSnapshot) {
        let shared = self.shadows.record(&key(), Some(&snapshot.group));
        assert_eq!(shared, PolicySource::from_shadow(&snapshot.group));
    }

    fn shown(&self, snapshot: &GroupSnapshot) -> ShadowStatus {
        match self.shadows.condition(&key(), snapshot) {
            ShadowCondition::Is(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the condition has this reason, and returns it.
    async fn until(&self, snapshot: &GroupSnapshot, reason: &str) -> ShadowStatus {
        loop {
            let status = self.shown(snapshot);
            if status.reason == reason {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the number of decisions with this outcome in the metrics.
    fn counted(&self, outcome: &str) -> Option<String> {
        let text = self.metrics.text();
        let outcome = format!("outcome=\"{outcome}\"");
        let mut lines = text.lines().filter(|line| line.starts_with("oaat_shadow_"));
        let line = lines.find(|line| line.contains(&outcome))?;
        line.rsplit(' ').next().map(ToOwned::to_owned)
    }
}

fn key() -> GroupRef {
    GroupRef::new("g").within("n")
}

/// Returns a group with a shadow policy, with more fields in `spec.policy.shadow`.
fn shadowed(more: Value) -> GroupSnapshot {
    let mut snapshot = fixture(&["a", "b"]);
    let mut shadow = json!({ "builtIn": "default" });
    for (key, value) in more.as_object().into_iter().flatten() {
        shadow[key] = value.clone();
    }
    let policy = json!({ "builtIn": "default", "shadow": shadow });
    snapshot.group.spec.policy = serde_json::from_value(policy).unwrap();
    snapshot.group.metadata.namespace = Some("n".into());
    snapshot
}

/// Returns an evaluation that compares a decision with this choice.
fn evaluation(snapshot: &GroupSnapshot, choice: Choice) -> ShadowEvaluation {
    let answered = answered(snapshot, Ok(choice));
    ShadowEvaluation::new(snapshot, Some(answered)).unwrap()
}

fn answered(snapshot: &GroupSnapshot, answer: Result<Choice, EvalError>) -> AnsweredRequest {
    let valid = validate(&snapshot.group.spec).unwrap();
    let plan = plan_group(snapshot, &Ok(valid.clone()));
    let policy = PolicyInUse {
        source: "default".into(),
        digest: "d".into(),
        contract: "c".into(),
        instead_of: None,
    };
    let on_error = oaat_api::OnError::Hold;
    let selection = PolicySelection::selected(policy.clone(), None, on_error);
    AnsweredRequest {
        policy,
        request: policy_request(snapshot, &valid, &plan, &selection),
        request_sha256: "0123456789abcdef".into(),
        evaluation: Evaluation {
            answer: answer.map(|choice| Decision {
                choice,
                note: None,
                verdicts: Vec::new(),
                state: None,
            }),
            fuel: 1,
            log: Vec::new(),
            log_dropped: 0,
        },
    }
}

/// Returns the index that the documented algorithm chooses.
fn choice_of(policy: &Policy, snapshot: &GroupSnapshot) -> Choice {
    let request = answered(snapshot, Ok(Choice::Wait(None))).request;
    policy.evaluate(&request).answer.unwrap().choice
}

#[tokio::test]
async fn decisions_are_compared_and_counted() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    let policy = fixture.documented();
    fixture.record(&snapshot);
    assert_eq!(fixture.shown(&snapshot).reason, shadow_agrees::LOADING);
    let same = choice_of(&policy, &snapshot);
    let evaluate = |choice| {
        let evaluation = evaluation(&snapshot, choice);
        fixture.shadows.evaluate(&key(), &policy, evaluation);
    };
    evaluate(same);
    let agrees = fixture.until(&snapshot, shadow_agrees::AGREES).await;
    assert_eq!(agrees.status, True);
    assert!(agrees.message.contains(", 1 of 1 decisions agreed;"));
    evaluate(Choice::Wait(None));
    let differs = fixture.until(&snapshot, shadow_agrees::DIFFERS).await;
    assert_eq!(differs.status, False);
    for part in [
        "1 of 2 decisions agreed, 1 differed;",
        "(request 0123456789ab), it would start \"",
        "instead of waiting",
        "the built-in policy default",
    ] {
        assert!(differs.message.contains(part), "{}", differs.message);
    }
    let counted = ["agree", "differ", "error"].map(|outcome| fixture.counted(outcome));
    assert_eq!(counted, [Some("1".into()), Some("1".into()), None]);
}

#[tokio::test]
async fn shadow_that_makes_no_decision_is_reported() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    fixture.record(&snapshot);
    let policy = fixture.hostile("loop");
    let evaluation = evaluation(&snapshot, Choice::Run(0));
    fixture.shadows.evaluate(&key(), &policy, evaluation);
    let failed = fixture.until(&snapshot, shadow_agrees::FAILED).await;
    let expected = "it would fail with OutOfFuel instead of starting \"a\": the policy used up";
    assert!(failed.message.contains(expected), "{}", failed.message);
    assert_eq!(failed.status, False);
}

#[tokio::test]
async fn rejected_settings_are_reported_without_a_decision_and_checked_once() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    fixture.record(&snapshot);
    let policy = fixture.hostile("validate-err");
    let check = || {
        let evaluation = ShadowEvaluation::new(&snapshot, None).unwrap();
        fixture.shadows.evaluate(&key(), &policy, evaluation);
    };
    check();
    let problem = fixture.until(&snapshot, shadow_agrees::NOT_USABLE).await;
    assert_eq!(problem.status, Unknown);
    assert!(problem.message.starts_with("SettingsRejected: "));
    check();
    assert!(!fixture.shadows.groups()[&key()].is_busy);
}

#[tokio::test]
async fn component_with_another_digest_is_not_evaluated() {
    let pin = json!({ "configMap": { "name": "m" }, "builtIn": null, "sha256": "0".repeat(64) });
    let (fixture, snapshot) = (Fixture::new(), shadowed(pin));
    assert_eq!(fixture.shadows.record(&key(), Some(&snapshot.group)), None);
    let mut groups = fixture.shadows.groups();
    let group = groups.get_mut(&key()).unwrap();
    let evaluation = evaluation(&snapshot, Choice::Run(0));
    assert!(
        group
            .prepare(&evaluation, &fixture.documented(), String::new())
            .is_none()
    );
    let message = group.condition().unwrap().message;
    assert!(message.starts_with("DigestMismatch: "), "{message}");
}

#[tokio::test]
async fn evaluations_are_skipped_while_the_machine_is_busy() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    fixture.record(&snapshot);
    let policy = fixture.documented();
    // The compiler is busy.
    let held = fixture.shadows.0.compiler.acquire("n").await;
    let evaluate = |evaluation| fixture.shadows.evaluate(&key(), &policy, evaluation);
    evaluate(evaluation(&snapshot, Choice::Wait(None)));
    for _ in 0..2 {
        evaluate(evaluation(&snapshot, Choice::Wait(None)));
    }
    assert_eq!(fixture.counted("skipped"), Some("2".into()));
    drop(held);
    let compared = fixture.until(&snapshot, shadow_agrees::DIFFERS).await;
    assert!(
        compared
            .message
            .contains(", 0 of 1 decisions agreed, 1 differed;")
    );
    assert!(
        compared.message.contains("; 2 skipped;"),
        "{}",
        compared.message
    );
    // Too many requests wait.
    let room = fixture.shadows.0.room.clone();
    let _taken = room.try_acquire_many(MAX_WAITING_KIB).unwrap();
    evaluate(evaluation(&snapshot, Choice::Wait(None)));
    assert_eq!(fixture.counted("skipped"), Some("3".into()));
}

#[tokio::test]
async fn new_reason_causes_one_reconcile_and_new_counts_cause_none() {
    let (mut fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    fixture.record(&snapshot);
    let policy = fixture.documented();
    assert_eq!(fixture.shown(&snapshot).reason, shadow_agrees::LOADING);
    let wait_until_answered = async |fixture: &Fixture| {
        while fixture.shadows.groups()[&key()].is_busy {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let wait = evaluation(&snapshot, Choice::Wait(None));
    fixture.shadows.evaluate(&key(), &policy, wait.clone());
    wait_until_answered(&fixture).await;
    assert_eq!(fixture.queue.recv().await, Some(key()));
    assert_eq!(fixture.shown(&snapshot).reason, shadow_agrees::DIFFERS);
    fixture.shadows.evaluate(&key(), &policy, wait);
    wait_until_answered(&fixture).await;
    assert!(!fixture.shadows.groups()[&key()].is_reporting);
    assert!(fixture.queue.try_recv().is_err());
}

#[tokio::test]
async fn result_from_before_a_restart_stays_until_there_is_a_new_one() {
    let (fixture, mut snapshot) = (Fixture::new(), shadowed(json!({})));
    let mut status = OaatGroupStatus::default();
    let before = (
        shadow_agrees::TYPE,
        False,
        shadow_agrees::DIFFERS,
        "before".into(),
    );
    set_condition(&mut status.conditions, Timestamp(0), Some(1), before);
    snapshot.group.status = Some(status);
    fixture.record(&snapshot);
    let policy = fixture.documented();
    let unchanged = || {
        let condition = fixture.shadows.condition(&key(), &snapshot);
        assert_eq!(condition, ShadowCondition::Unchanged);
    };
    unchanged();
    let check = ShadowEvaluation::new(&snapshot, None).unwrap();
    fixture.shadows.evaluate(&key(), &policy, check);
    while fixture.shadows.groups()[&key()].is_busy {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unchanged();
    assert!(!fixture.shadows.groups()[&key()].is_reporting);
    let same = choice_of(&policy, &snapshot);
    fixture
        .shadows
        .evaluate(&key(), &policy, evaluation(&snapshot, same));
    while fixture.shadows.groups()[&key()].is_busy {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fixture.shown(&snapshot).reason, shadow_agrees::AGREES);
    // The result of another spec is not kept.
    snapshot.group.metadata.generation = Some(2);
    let other = Fixture::new();
    other.record(&snapshot);
    assert_eq!(other.shown(&snapshot).reason, shadow_agrees::LOADING);
}

#[tokio::test]
async fn counts_start_again_with_another_policy_or_other_settings() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    fixture.record(&snapshot);
    let evaluate = |policy: &Policy, snapshot: &GroupSnapshot| {
        let evaluation = evaluation(snapshot, Choice::Wait(None));
        fixture.shadows.evaluate(&key(), policy, evaluation);
    };
    evaluate(&fixture.documented(), &snapshot);
    fixture.until(&snapshot, shadow_agrees::DIFFERS).await;
    evaluate(&fixture.hostile("loop"), &snapshot);
    let failed = fixture.until(&snapshot, shadow_agrees::FAILED).await;
    assert!(
        failed.message.contains(" of 1 decisions "),
        "{}",
        failed.message
    );
    let changed = shadowed(json!({ "settings": { "x": 1 } }));
    fixture.record(&changed);
    assert_eq!(fixture.shown(&changed).reason, shadow_agrees::LOADING);
    // An evaluation with the previous settings is ignored.
    evaluate(&fixture.documented(), &snapshot);
    assert!(!fixture.shadows.groups()[&key()].is_busy);
    fixture.shadows.record(&key(), None);
    assert!(fixture.shadows.groups().is_empty());
}

#[tokio::test]
async fn evaluation_for_a_removed_shadow_does_not_count_for_the_same_shadow_added_again() {
    let (fixture, snapshot) = (Fixture::new(), shadowed(json!({})));
    let policy = fixture.documented();
    let evaluate = || {
        let evaluation = evaluation(&snapshot, Choice::Wait(None));
        fixture.shadows.evaluate(&key(), &policy, evaluation);
    };
    fixture.record(&snapshot);
    // The compiler is busy, so the evaluation waits.
    let held = fixture.shadows.0.compiler.acquire("n").await;
    evaluate();
    fixture.shadows.record(&key(), None);
    fixture.record(&snapshot);
    drop(held);
    // All permits are free again when the waiting evaluation has ended.
    while fixture.shadows.0.room.available_permits() < MAX_WAITING_KIB as usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fixture.shown(&snapshot).reason, shadow_agrees::LOADING);
    let held = fixture.shadows.0.compiler.acquire("n").await;
    evaluate();
    assert!(fixture.shadows.groups()[&key()].is_busy);
    drop(held);
    let compared = fixture.until(&snapshot, shadow_agrees::DIFFERS).await;
    assert!(
        compared.message.contains(" of 1 decisions "),
        "{}",
        compared.message
    );
}

#[test]
fn request_has_the_settings_of_the_shadow_and_no_state_of_another_policy() {
    let other = json!({ "builtIn": "fair", "settings": { "x": 1 } });
    for (more, state) in [(json!({}), "kept"), (other, "")] {
        let mut snapshot = shadowed(more);
        let options = json!({ "b": { "settings": { "weight": 2 } } });
        snapshot.group.spec.item_options = serde_json::from_value(options).unwrap();
        let mut answered = answered(&snapshot, Ok(Choice::Run(0)));
        answered.request.state = "kept".into();
        answered.request.settings = r#"{"of":"the deciding policy"}"#.into();
        let evaluation = ShadowEvaluation::new(&snapshot, Some(answered)).unwrap();
        let request = evaluation.request_for_tests();
        let own = &snapshot.group.spec.policy.as_ref().unwrap().shadow;
        let own = own.as_ref().unwrap().settings.clone().unwrap_or_default();
        assert_eq!(request.settings, Value::Object(own).to_string());
        assert_eq!(request.items[0].settings, None);
        let weight = request.items[1].settings.as_deref();
        assert_eq!(weight, Some(r#"{"weight":2}"#));
        assert_eq!(request.state, state);
    }
}
