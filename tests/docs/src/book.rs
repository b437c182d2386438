//! Builds the book of docs/ with mdBook.

use crate::root;
use anyhow::{Context, Result, ensure};
use mdbook_driver::MDBook;
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use regex::{Captures, Regex};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

/// The files of the repository that are not pages of the book.
const REPOSITORY: &str = "https://github.com/kawaja/oaat-operator/blob/main/";

/// Builds the book into a folder.
///
/// # Errors
/// Returns an error if mdBook fails or prints a warning.
pub fn build(folder: &Path) -> Result<()> {
    let warnings = Warnings::default();
    let subscriber = Registry::default().with(warnings.clone());
    let built = tracing::subscriber::with_default(subscriber, || -> Result<()> {
        let mut book = MDBook::load(root().join("docs"))?;
        folder.clone_into(&mut book.config.build.build_dir);
        book.with_preprocessor(RepositoryLinks::new()?);
        book.build()
    });
    built.context("failed to build the book")?;
    let warnings = warnings.0.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(warnings.is_empty(), "mdBook warns: {warnings:#?}");
    Ok(())
}

/// The warnings of mdBook.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(message.0);
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Makes links to files outside of docs/ point to the repository.
struct RepositoryLinks(Regex);

impl RepositoryLinks {
    fn new() -> Result<Self> {
        Ok(Self(Regex::new(r"\]\((\.\.?/[^)\s]*)\)")?))
    }
}

impl Preprocessor for RepositoryLinks {
    fn name(&self) -> &str {
        "repository-links"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> Result<Book> {
        book.for_each_chapter_mut(|chapter| {
            let Some(path) = &chapter.source_path else {
                return;
            };
            let folder = path.parent().unwrap_or(path);
            let replace = |captures: &Captures<'_>| match outside(folder, &captures[1]) {
                Some(file) => format!("]({REPOSITORY}{file})"),
                None => captures[0].to_owned(),
            };
            chapter.content = self.0.replace_all(&chapter.content, replace).into_owned();
        });
        Ok(book)
    }
}

/// Returns the path of a link's target in the repository, if it is outside of docs/.
fn outside(folder: &Path, link: &str) -> Option<String> {
    let mut path = PathBuf::from("docs");
    for part in folder.join(link).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    (!path.starts_with("docs")).then(|| path.display().to_string())
}
