//! An answer as it is written: text whose citations are checked, the citations themselves, and one end.

use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use utoipa::ToSchema;

use crate::llm::{self, FinishReason, Generator, Piece, Pieces, Usage};
use crate::rag::citation::{Checked, CitationFilter};
use crate::rag::prompt::Grounded;
use crate::store::ids::{ChunkId, DocumentId};
use crate::store::passages::Passage;

/// Bytes of an answer's text at most; a generator that goes on and on is stopped here.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A passage that the answer rests on, as `[n]` in its text.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Citation {
    /// The number in the text.
    pub n: usize,
    /// The document.
    pub document: DocumentId,
    /// Its title.
    pub title: String,
    /// The passage.
    pub chunk: ChunkId,
    /// The page, where the document has pages.
    pub page: Option<i32>,
    /// Unicode scalar offsets of the passage in the document's text, start and end.
    pub span: [i32; 2],
}

/// A step of an answer.
#[derive(Debug)]
pub enum Step {
    /// The next part of the text; never empty.
    Text(String),
    /// A source that the text just before cited for the first time.
    Citation(Citation),
    /// What the answer cost.
    Usage(Usage),
    /// The answer is over. Nothing follows.
    End(End),
}

/// How an answer ended.
#[derive(Debug)]
pub enum End {
    /// In order.
    Finished(FinishReason),
    /// Without a single word.
    Empty,
    /// In the middle, without the generator saying that it was done.
    CutOff,
    /// By an error of the generator.
    Failed(llm::Error),
}

/// Generates the answer to a prompt. The stream ends after its [`Step::End`]; dropping it stops the generator.
pub fn write(generator: &Generator, grounded: Grounded) -> impl Stream<Item = Step> + Send + 'static {
    let Grounded { prompt, passages, .. } = grounded;
    let writer = Writer {
        pieces: generator.generate(prompt),
        filter: CitationFilter::new(passages.len()),
        passages,
        text_bytes: 0,
        ended: false,
    };
    stream::unfold(writer, |mut writer| async {
        if writer.ended {
            return None;
        }
        Some((stream::iter(writer.next().await), writer))
    })
    .flatten()
}

struct Writer {
    pieces: Pieces,
    filter: CitationFilter,
    passages: Vec<Passage>,
    text_bytes: usize,
    ended: bool,
}

impl Writer {
    /// Takes the generator's next piece; it may come to nothing, or to several steps.
    async fn next(&mut self) -> Vec<Step> {
        match self.pieces.next().await {
            Some(Ok(Piece::Text(text))) if self.text_bytes + text.len() > ANSWER_BYTES_MAX => {
                self.end(End::Finished(FinishReason::Length))
            }
            // Neither Postgres nor JSON in it stores a NUL.
            Some(Ok(Piece::Text(text))) => {
                let checked = self.filter.push(&text.replace('\0', ""));
                self.steps(checked)
            }
            Some(Ok(Piece::Usage(usage))) => vec![Step::Usage(usage)],
            Some(Ok(Piece::End(reason))) => self.end(End::Finished(reason)),
            Some(Err(error)) => self.end(End::Failed(error)),
            None => self.end(End::CutOff),
        }
    }

    fn steps(&mut self, checked: Checked) -> Vec<Step> {
        self.text_bytes += checked.text.len();
        let text = (!checked.text.is_empty()).then_some(Step::Text(checked.text));
        let citations = checked.cited.into_iter().map(|n| Step::Citation(citation(n, &self.passages[n - 1])));
        text.into_iter().chain(citations).collect()
    }

    fn end(&mut self, end: End) -> Vec<Step> {
        self.ended = true;
        let rest = self.filter.finish();
        let mut steps = self.steps(rest);
        let is_empty = self.text_bytes == 0 && matches!(end, End::Finished(_));
        steps.push(Step::End(if is_empty { End::Empty } else { end }));
        steps
    }
}

fn citation(n: usize, passage: &Passage) -> Citation {
    Citation {
        n,
        document: passage.document,
        title: passage.title.clone(),
        chunk: passage.chunk,
        page: passage.page,
        span: passage.span,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rag::prompt;
    use crate::rag::retrieve::Found;

    fn passage(title: &str) -> Passage {
        Passage {
            chunk: ChunkId::new(),
            document: DocumentId::new(),
            title: title.into(),
            heading: String::new(),
            text: format!("text of {title}"),
            span: [3, 7],
            page: None,
        }
    }

    /// Text, cited titles and end of an answer made of `pieces`.
    async fn run(pieces: Vec<Result<Piece, llm::Error>>) -> (String, Vec<String>, End) {
        let pieces = std::sync::Mutex::new(Some(pieces));
        let generator = Generator::Supplied(Arc::new(move |_| {
            stream::iter(pieces.lock().unwrap().take().unwrap()).boxed()
        }));
        let found = ["one", "two"].map(|title| Found { passage: passage(title), score: 1.0, cosine: None });
        let grounded = prompt::build("?".into(), None, found.to_vec());
        let (mut text, mut titles, mut ends) = (String::new(), Vec::new(), Vec::new());
        let mut steps = std::pin::pin!(write(&generator, grounded));
        while let Some(step) = steps.next().await {
            match step {
                Step::Text(part) => text.push_str(&part),
                Step::Citation(citation) => titles.push(citation.title),
                Step::Usage(_) => {}
                Step::End(end) => ends.push(end),
            }
        }
        assert_eq!(ends.len(), 1, "exactly one end");
        (text, titles, ends.remove(0))
    }

    fn text(text: &str) -> Result<Piece, llm::Error> {
        Ok(Piece::Text(text.into()))
    }

    #[tokio::test]
    async fn only_sources_of_the_prompt_are_cited() {
        let stop = Ok(Piece::End(FinishReason::Stop));
        let (text, titles, end) = run(vec![text("Yes ["), text("2], and [9] no [2"), text("]."), stop]).await;
        assert_eq!((text.as_str(), titles), ("Yes [2], and no [2].", vec!["two".to_owned()]));
        assert!(matches!(end, End::Finished(FinishReason::Stop)));
    }

    #[tokio::test]
    async fn a_generator_that_falls_silent_has_not_finished() {
        let (text, _, end) = run(vec![text("Half a sent")]).await;
        assert_eq!(text, "Half a sent");
        assert!(matches!(end, End::CutOff));
    }

    #[tokio::test]
    async fn an_answer_without_a_word_is_no_answer() {
        let (_, _, end) = run(vec![text(""), text(" [7]"), Ok(Piece::End(FinishReason::Stop))]).await;
        assert!(matches!(end, End::Empty));
    }

    #[tokio::test]
    async fn an_error_ends_the_answer_and_keeps_what_was_written() {
        let (text, _, end) = run(vec![text("So far"), Err(llm::Error::Unavailable), text("never")]).await;
        assert_eq!(text, "So far");
        assert!(matches!(end, End::Failed(_)));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_at_the_limit() {
        let page = "x".repeat(1000);
        let (text, _, end) = run((0..100).map(|_| text(&page)).collect()).await;
        assert!(text.len() <= ANSWER_BYTES_MAX && text.len() > ANSWER_BYTES_MAX - 1000);
        assert!(matches!(end, End::Finished(FinishReason::Length)));
    }
}
