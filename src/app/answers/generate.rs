//! One answer from claim to end: retrieve, generate, hand every step to the journal.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::Parts;
use super::failure::Failure;
use super::hub::{Hub, Stop};
use super::journal::{Entry, What};
use super::live::Live;
use crate::app::messages::Message;
use crate::app::stream;
use crate::llm::Usage;
use crate::rag::answer::{self, Citation, End, Step};
use crate::rag::evidence;
use crate::rag::prompt::{self, CANDIDATES, Grounded};
use crate::rag::retrieve::{self, Corpus, Retrieved};
use crate::store::generations::Work;
use crate::store::journal::Ending;
use crate::telemetry::chain::chain;

/// Writes the answer that `work` asks for. Ends with exactly one terminal event, unless the claim is lost.
pub async fn run(parts: Arc<Parts>, work: Work, live: Arc<Live>, mut stop: watch::Receiver<Option<Stop>>) {
    // A panic gives the claim up: the lease runs out and the sweep ends the answer.
    let guard = GiveUp { hub: &parts.hub, work: &work };
    let mut answer = Answer::new(&work, live, parts.journal.clone());
    let outcome = tokio::select! {
        biased;
        why = stopped(&mut stop) => Outcome::Stopped(why),
        outcome = tokio::time::timeout(parts.time_max, write(&parts, &mut answer)) => {
            outcome.unwrap_or_else(|_| {
                log::warn!("an answer took too long and is interrupted");
                Outcome::Ended(End::CutOff)
            })
        }
    };
    if answer.end(outcome).await {
        // From here on the journal's writer has it.
        std::mem::forget(guard);
    }
}

struct GiveUp<'a> {
    hub: &'a Hub,
    work: &'a Work,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.hub.lose(self.work.claim.message);
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await {
        Ok(why) => why.unwrap_or(Stop::Lost),
        // The hub has forgotten the generation.
        Err(_) => Stop::Lost,
    }
}

enum Outcome {
    Ended(End),
    Failed(Failure),
    Stopped(Stop),
}

async fn write(parts: &Parts, answer: &mut Answer<'_>) -> Outcome {
    let grounded = match ground(parts, answer.work).await {
        Ok(grounded) => grounded,
        Err(error) => {
            let failure = if error.is_transient() { Failure::UNAVAILABLE } else { Failure::INTERNAL };
            log::warn!(error:% = chain(&error); "cannot retrieve passages for an answer");
            return Outcome::Failed(failure);
        }
    };
    let meta = json!({
        "message": answer.work.claim.message,
        "question": answer.work.question_id,
        "generator": parts.generator.name(),
        "sources": grounded.passages.len(),
    });
    answer.send(What::Event("meta", meta.to_string())).await;
    let mut steps = std::pin::pin!(answer::write(&parts.generator, grounded));
    while let Some(step) = steps.next().await {
        match step {
            Step::Text(text) => answer.text(text).await,
            Step::Citation(citation) => answer.cite(citation).await,
            Step::Usage(usage) => answer.usage(usage).await,
            Step::End(end) => return Outcome::Ended(end),
        }
    }
    Outcome::Ended(End::CutOff)
}

async fn ground(parts: &Parts, work: &Work) -> Result<Grounded, retrieve::Error> {
    let corpus = Corpus { store: &parts.store, index: &parts.index, embedder: parts.model.get() };
    let previous = work.previous_question.as_deref();
    let Retrieved { found, questions } =
        retrieve::retrieve_follow_up(corpus, &work.access, &work.question, previous, CANDIDATES).await?;
    let mut grounded = prompt::build(work.question.clone(), work.previous_question.clone(), found);
    if let Some(embedder) = parts.model.get() {
        evidence::weigh(&mut grounded.prompt, &questions, embedder).await;
    }
    Ok(grounded.only_relevant())
}

/// What has been written so far.
struct Answer<'a> {
    work: &'a Work,
    live: Arc<Live>,
    journal: mpsc::Sender<Entry>,
    content: String,
    citations: Vec<Citation>,
}

impl<'a> Answer<'a> {
    fn new(work: &'a Work, live: Arc<Live>, journal: mpsc::Sender<Entry>) -> Self {
        Self { work, live, journal, content: String::new(), citations: Vec::new() }
    }

    async fn text(&mut self, text: String) {
        // Kept when it is on its way, so that a stop while the queue is full leaves message and journal equal.
        let Ok(permit) = self.journal.reserve().await else { return };
        self.content.push_str(&text);
        permit.send(Entry { claim: self.work.claim, live: Arc::clone(&self.live), what: What::Delta(text) });
    }

    async fn cite(&mut self, citation: Citation) {
        let data = serde_json::to_string(&citation).expect("numbers and text are always JSON");
        let Ok(permit) = self.journal.reserve().await else { return };
        self.citations.push(citation);
        let what = What::Event("citation", data);
        permit.send(Entry { claim: self.work.claim, live: Arc::clone(&self.live), what });
    }

    async fn usage(&self, usage: Usage) {
        let data = serde_json::to_string(&usage).expect("numbers are always JSON");
        self.send(What::Event("usage", data)).await;
    }

    /// Hands the end to the journal. Returns whether this node still has the claim.
    async fn end(self, outcome: Outcome) -> bool {
        let (status, finish_reason, failure) = match outcome {
            Outcome::Ended(End::Finished(reason)) => ("complete", Some(reason.as_str()), None),
            Outcome::Ended(End::Empty) => ("failed", None, Some(Failure::EMPTY)),
            Outcome::Ended(End::CutOff) | Outcome::Stopped(Stop::Interrupted) => {
                ("interrupted", None, Some(Failure::INTERRUPTED))
            }
            Outcome::Ended(End::Failed(error)) => {
                log::warn!(error:% = chain(&error); "the answer generator failed");
                ("failed", None, Some(Failure::UNAVAILABLE))
            }
            Outcome::Failed(failure) => ("failed", None, Some(failure)),
            Outcome::Stopped(Stop::Cancelled) => ("cancelled", Some("cancelled"), None),
            Outcome::Stopped(Stop::Lost) => return false,
        };
        let citations = serde_json::to_value(&self.citations).expect("numbers and text are always JSON");
        let message = Message {
            id: self.work.claim.message,
            role: "assistant".into(),
            content: self.content.clone(),
            status: status.into(),
            citations: serde_json::value::to_raw_value(&citations).expect("a value is always JSON"),
            finish_reason: finish_reason.map(Into::into),
            created_at: self.work.created_at.into(),
        };
        let (name, data) = match failure {
            None => ("done", stream::done(&message)),
            Some(failure) => ("error", failure.data()),
        };
        let content = self.content.clone();
        let ending = Ending { status, content, citations, finish_reason, events: Vec::new() };
        self.send(What::End(name, data, Box::new(ending))).await;
        true
    }

    /// Hands a step to the journal. It is gone only when the node stops, and the sweep of another ends the answer.
    async fn send(&self, what: What) {
        let _ = self.journal.send(Entry { claim: self.work.claim, live: Arc::clone(&self.live), what }).await;
    }
}
