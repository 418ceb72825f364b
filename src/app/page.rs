//! Lists in DRF's envelopes: page numbers everywhere, a cursor for messages.

use std::fmt::Write as _;
use std::future::Future;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::App;
use super::error::ApiError;
use crate::store::page::{CursorWindow, Window};

/// Items of a page where the client does not say.
pub const PAGE_SIZE: i64 = 20;
/// Items of a page at most.
pub const PAGE_SIZE_MAX: i64 = 200;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Items in the whole list.
    pub count: i64,
    /// URL of the next page.
    pub next: Option<String>,
    /// URL of the previous page.
    pub previous: Option<String>,
    /// The items of this page.
    pub results: Vec<T>,
}

impl<T> Page<T> {
    /// Turns stored rows into their JSON shape.
    pub fn map<U>(self, shape: impl FnMut(T) -> U) -> Page<U> {
        let Self { count, next, previous, results } = self;
        Page { count, next, previous, results: results.into_iter().map(shape).collect() }
    }
}

/// One stretch of a list that grows while it is read.
#[derive(Debug, Serialize, ToSchema)]
pub struct CursorPage<T> {
    /// URL of the items after these.
    pub next: Option<String>,
    /// URL of the items before these.
    pub previous: Option<String>,
    /// The items.
    pub results: Vec<T>,
}

impl<T> CursorPage<T> {
    /// Turns stored rows into their JSON shape.
    pub fn map<U>(self, shape: impl FnMut(T) -> U) -> CursorPage<U> {
        let Self { next, previous, results } = self;
        CursorPage { next, previous, results: results.into_iter().map(shape).collect() }
    }
}

/// How [`PageQuery`] looks in the API's description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub struct PageParameters {
    /// Number of the page, from 1, or `last`.
    #[param(required = false)]
    page: String,
    /// Items of a page; 20 unless given, 200 at most.
    #[param(required = false)]
    page_size: i64,
}

/// How [`CursorQuery`] looks in the API's description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub struct CursorParameters {
    /// Out of the `next` or `previous` of an answer.
    #[param(required = false)]
    cursor: String,
    /// Items of an answer; 20 unless given, 200 at most.
    #[param(required = false)]
    page_size: i64,
}

/// `page` and `page_size` of a request.
#[derive(Debug)]
pub struct PageQuery {
    link: Link,
    page: PageNumber,
    size: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageNumber {
    Number(i64),
    Last,
}

impl FromRequestParts<App> for PageQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let link = Link::new(parts, app);
        let page = match link.value("page") {
            None => PageNumber::Number(1),
            Some("last") => PageNumber::Last,
            Some(text) => match text.parse() {
                Ok(number) if (1..=i64::MAX / PAGE_SIZE_MAX).contains(&number) => PageNumber::Number(number),
                _ => return Err(invalid_page()),
            },
        };
        Ok(Self { size: link.size(), link, page })
    }
}

impl PageQuery {
    /// Loads the asked-for page through `list`, which returns the whole list's length and the window's items, or a
    /// length of 0 where the window lies beyond the end.
    ///
    /// # Errors
    /// 404 `Invalid page.` beyond the end; what `list` returns.
    pub async fn fetch<T, E, F>(self, list: impl Fn(Window) -> F) -> Result<Page<T>, ApiError>
    where
        F: Future<Output = Result<(i64, Vec<T>), E>>,
        ApiError: From<E>,
    {
        let size = self.size;
        let window = |number: i64| Window { limit: size, offset: (number - 1) * size };
        let (number, (count, results)) = match self.page {
            PageNumber::Number(number) => (number, list(window(number)).await?),
            PageNumber::Last => {
                let (count, results) = list(window(1)).await?;
                match last_page(count, size) {
                    1 => (1, (count, results)),
                    last => (last, list(window(last)).await?),
                }
            }
        };
        if number > 1 && results.is_empty() {
            return Err(invalid_page());
        }
        let link = |number: i64| self.link.with("page", (number > 1).then(|| number.to_string()).as_deref());
        let next = (number < last_page(count, size)).then(|| link(number + 1));
        let previous = (number > 1).then(|| link(number - 1));
        Ok(Page { count, next, previous, results })
    }
}

fn last_page(count: i64, size: i64) -> i64 {
    (count.max(1) - 1) / size + 1
}

fn invalid_page() -> ApiError {
    ApiError::detail(http::StatusCode::NOT_FOUND, "Invalid page.")
}

/// `cursor` and `page_size` of a request.
#[derive(Debug)]
pub struct CursorQuery {
    link: Link,
    window: CursorWindow,
}

impl FromRequestParts<App> for CursorQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let link = Link::new(parts, app);
        let mut window = CursorWindow { limit: link.size(), position: None, backwards: false };
        if let Some(cursor) = link.value("cursor") {
            let (position, backwards) = decode_cursor(cursor)
                .ok_or_else(|| ApiError::detail(http::StatusCode::NOT_FOUND, "Invalid cursor"))?;
            window.position = Some(position);
            window.backwards = backwards;
        }
        Ok(Self { link, window })
    }
}

impl CursorQuery {
    /// Loads the asked-for stretch through `list`, which returns at most one item more than the window's limit, in
    /// the window's direction; `position` returns what an item is sorted by.
    ///
    /// # Errors
    /// What `list` returns.
    pub async fn fetch<T, E, F>(
        self,
        position: impl Fn(&T) -> Uuid,
        list: impl FnOnce(CursorWindow) -> F,
    ) -> Result<CursorPage<T>, ApiError>
    where
        F: Future<Output = Result<Vec<T>, E>>,
        ApiError: From<E>,
    {
        let window = self.window;
        let mut results = list(window).await?;
        let limit = usize::try_from(window.limit).unwrap_or(usize::MAX);
        let more = results.len() > limit;
        results.truncate(limit);
        if window.backwards {
            results.reverse();
        }
        let (has_next, has_previous) = match window.backwards {
            true => (window.position.is_some(), more),
            false => (more, window.position.is_some()),
        };
        let link = |item: Option<&T>, backwards: bool| {
            item.map(|item| self.link.with("cursor", Some(&encode_cursor(position(item), backwards))))
        };
        Ok(CursorPage {
            next: has_next.then(|| link(results.last(), false)).flatten(),
            previous: has_previous.then(|| link(results.first(), true)).flatten(),
            results,
        })
    }
}

/// DRF's cursor: `r=1` for backwards, `p` the position, in base64, the padding escaped for the URL.
fn encode_cursor(position: Uuid, backwards: bool) -> String {
    let reverse = if backwards { "r=1&" } else { "" };
    BASE64_STANDARD.encode(format!("{reverse}p={position}")).replace('=', "%3D")
}

fn decode_cursor(cursor: &str) -> Option<(Uuid, bool)> {
    let bytes = BASE64_STANDARD.decode(cursor.replace("%3D", "=").replace("%3d", "=")).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let value = |key: &str| text.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    Some((value("p")?.parse().ok()?, value("r") == Some("1")))
}

/// The request's own URL, for links that differ from it in one parameter.
#[derive(Debug)]
struct Link {
    base: String,
    query: String,
}

impl Link {
    fn new(parts: &Parts, app: &App) -> Self {
        let mut base = String::new();
        if let Some(site) = app.sites.of(&parts.headers) {
            write!(base, "{}://{}", site.scheme(), site.host).expect("writing to a string does not fail");
        }
        base.push_str(parts.uri.path());
        Self { base, query: parts.uri.query().unwrap_or_default().to_owned() }
    }

    fn value(&self, key: &str) -> Option<&str> {
        pairs(&self.query).find_map(|(name, value)| (name == key).then_some(value))
    }

    fn size(&self) -> i64 {
        let size = self.value("page_size").and_then(|text| text.parse().ok()).filter(|size| *size > 0);
        size.unwrap_or(PAGE_SIZE).min(PAGE_SIZE_MAX)
    }

    /// Parameters are sorted by name, as DRF does.
    fn with(&self, key: &str, value: Option<&str>) -> String {
        let mut kept: Vec<(&str, &str)> = pairs(&self.query).filter(|(name, _)| *name != key).collect();
        kept.extend(value.map(|value| (key, value)));
        kept.sort_by_key(|(name, _)| *name);
        let mut url = self.base.clone();
        for (index, (name, value)) in kept.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(url, "{separator}{name}={value}").expect("writing to a string does not fail");
        }
        url
    }
}

/// The parameters of a query, still escaped.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(query: &str) -> Link {
        Link { base: "http://localhost:8000/api/chats/".into(), query: query.into() }
    }

    fn query(text: &str, page: PageNumber) -> PageQuery {
        let link = link(text);
        PageQuery { size: link.size(), link, page }
    }

    async fn list(count: i64, window: Window) -> Result<(i64, Vec<i64>), ApiError> {
        let end = (window.offset + window.limit).min(count);
        Ok((count, (window.offset..end).collect()))
    }

    #[tokio::test]
    async fn links_keep_the_other_parameters_sorted_and_the_first_page_has_no_number() {
        let text = "search=a%20b&page=2&page_size=2";
        let page = query(text, PageNumber::Number(2)).fetch(|window| list(5, window)).await.unwrap();
        let base = "http://localhost:8000/api/chats/?";
        assert_eq!(page.results, [2, 3]);
        assert_eq!(page.next, Some(format!("{base}page=3&page_size=2&search=a%20b")));
        assert_eq!(page.previous, Some(format!("{base}page_size=2&search=a%20b")));
    }

    #[tokio::test]
    async fn the_last_page_is_found_by_name_and_beyond_it_is_404() {
        let page = query("page_size=2", PageNumber::Last).fetch(|window| list(5, window)).await.unwrap();
        assert_eq!((page.results, page.next), (vec![4], None));
        let beyond = query("page_size=2", PageNumber::Number(4)).fetch(|window| list(5, window)).await;
        assert_eq!(beyond.unwrap_err().status(), http::StatusCode::NOT_FOUND);
        let empty = query("", PageNumber::Number(1)).fetch(|window| list(0, window)).await.unwrap();
        assert_eq!((empty.count, empty.next, empty.previous), (0, None, None));
    }

    #[test]
    fn the_page_size_is_bounded_and_nonsense_counts_as_absent() {
        assert_eq!(link("page_size=1000").size(), PAGE_SIZE_MAX);
        assert_eq!(link("page_size=200").size(), 200);
        assert_eq!(link("page_size=0").size(), PAGE_SIZE);
        assert_eq!(link("page_size=x").size(), PAGE_SIZE);
    }

    #[test]
    fn a_cursor_survives_the_url_and_rubbish_does_not_decode() {
        let position = Uuid::now_v7();
        assert_eq!(decode_cursor(&encode_cursor(position, true)), Some((position, true)));
        assert_eq!(decode_cursor(&encode_cursor(position, false)), Some((position, false)));
        assert_eq!(decode_cursor("rubbish"), None);
        assert_eq!(decode_cursor(""), None);
    }

    #[tokio::test]
    async fn cursor_pages_walk_forth_and_back() {
        let ids: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
        let stored = |window: CursorWindow| {
            let beyond = |id: &Uuid| match (window.position, window.backwards) {
                (None, _) => true,
                (Some(position), false) => *id > position,
                (Some(position), true) => *id < position,
            };
            let mut found: Vec<Uuid> = ids.iter().copied().filter(beyond).collect();
            if window.backwards {
                found.reverse();
            }
            found.truncate(usize::try_from(window.limit + 1).unwrap());
            std::future::ready(Ok::<_, ApiError>(found))
        };
        let fetch = async |position, backwards| {
            let window = CursorWindow { limit: 2, position, backwards };
            CursorQuery { link: link(""), window }.fetch(|id| *id, stored).await.unwrap()
        };
        let first = fetch(None, false).await;
        assert_eq!(first.results, ids[..2]);
        assert!(first.previous.is_none() && first.next.is_some());
        let last = fetch(Some(ids[3]), false).await;
        assert_eq!(last.results, ids[4..]);
        assert!(last.next.is_none() && last.previous.is_some());
        let back = fetch(Some(ids[4]), true).await;
        assert_eq!(back.results, ids[2..4]);
        assert!(back.next.is_some() && back.previous.is_some());
    }
}
