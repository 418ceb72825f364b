//! Work that waits for a node: making documents searchable.
//!
//! A job belongs to whoever holds its lease, shown by a token; a node that goes silent loses it when the lease runs
//! out, and every write of a job's holder requires the token. `attempts` counts the times that it was taken without a
//! result, so that a file that takes the process down is given up.
//!
//! Whoever locks a job and its document locks the document first, so that no two statements wait for each other.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::documents::Status;
use super::ids::{CollectionId, DocumentId, UserId};
use super::{Client, Error};

/// What is to be done with the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Extract, cut, embed and publish it.
    Ingest,
    /// Embed the passages that were published while there was no model.
    Embed,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Embed => "embed",
        }
    }
}

/// A job that this process holds.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job's id.
    pub id: Uuid,
    /// Shows that the lease is ours.
    pub token: Uuid,
    /// What is to be done.
    pub kind: Kind,
    /// How often it was taken, this time included.
    pub attempts: i32,
    /// The document.
    pub document: DocumentId,
    /// Its collection.
    pub collection: CollectionId,
    /// Who uploaded it.
    pub owner: Option<UserId>,
    /// Its title so far.
    pub title: String,
    /// The uploaded file's name.
    pub file_name: String,
    /// Name of the original in the object store.
    pub blob: String,
    /// Size of the original, in bytes.
    pub size_bytes: i64,
    /// The published version, 0 before the first.
    pub version: i32,
}

impl Job {
    fn of(row: &Row, token: Uuid) -> Self {
        Self {
            id: row.get("job"),
            token,
            kind: if row.get::<_, &str>("kind") == Kind::Embed.as_str() { Kind::Embed } else { Kind::Ingest },
            attempts: row.get("attempts"),
            document: DocumentId(row.get("id")),
            collection: CollectionId(row.get("collection_id")),
            owner: row.get::<_, Option<Uuid>>("owner_id").map(UserId),
            title: row.get("title"),
            file_name: row.get("file_name"),
            blob: row.get("blob"),
            size_bytes: row.get("size_bytes"),
            version: row.get("version"),
        }
    }
}

/// Takes a job that is due and that nobody holds, for `lease`; uploads before late embeddings.
///
/// * `kinds`: what the caller can do.
/// * `served`: owners whose documents were taken lately, oldest first: theirs come last, so that one person's ten
///   thousand documents do not delay another's single one.
/// * `barred`: owners whose documents are not taken now.
///
/// # Errors
/// See [`Error`].
pub async fn claim(
    client: &Client,
    kinds: &[Kind],
    lease: Duration,
    served: &[UserId],
    barred: &[UserId],
) -> Result<Option<Job>, Error> {
    let sql = "
        with claimed as (
            update jobs set lease_token = $1, lease_until = now() + $2 * interval '1 second',
                            attempts = attempts + 1
            where id = (
                select j.id from jobs j join documents d on d.id = j.document_id
                where j.kind = any($3) and j.run_after <= now()
                  and (j.lease_until is null or j.lease_until < now())
                  and (d.owner_id = any($5)) is not true
                order by j.kind = 'embed', coalesce(array_position($4::uuid[], d.owner_id), 0), j.run_after, j.id
                limit 1 for update of j skip locked
            )
            returning id as job, kind, attempts, document_id
        )
        select c.job, c.kind, c.attempts, d.id, d.collection_id, d.owner_id, d.title, d.file_name, d.blob,
               d.size_bytes, d.version
        from claimed c join documents d on d.id = c.document_id";
    let token = Uuid::new_v4();
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let ids = |owners: &[UserId]| owners.iter().map(|owner| owner.0).collect::<Vec<Uuid>>();
    let (served, barred) = (ids(served), ids(barred));
    let row = client.query_opt(sql, &[&token, &lease.as_secs_f64(), &kinds, &served, &barred]).await?;
    Ok(row.map(|row| Job::of(&row, token)))
}

/// Keeps a job for another `lease`. Returns whether it is still ours.
///
/// # Errors
/// See [`Error`].
pub async fn renew(client: &Client, job: &Job, lease: Duration) -> Result<bool, Error> {
    let sql =
        "update jobs set lease_until = now() + $3 * interval '1 second' where id = $1 and lease_token = $2";
    Ok(client.execute(sql, &[&job.id, &job.token, &lease.as_secs_f64()]).await? > 0)
}

/// Notes how far a job is, for those who watch. Returns whether it is still ours.
///
/// A document that another node settled while this waited for its row stays as it is: of the two rows only that one is
/// read again then.
///
/// # Errors
/// See [`Error`].
pub async fn note_progress(client: &Client, job: &Job, status: Status, progress: f32) -> Result<bool, Error> {
    let sql = "update documents d set status = $3, progress = $4, updated_at = now()
               from jobs j where j.id = $1 and j.lease_token = $2 and d.id = j.document_id
                 and d.status not in ('ready', 'failed')";
    Ok(client.execute(sql, &[&job.id, &job.token, &status.as_str(), &progress]).await? > 0)
}

/// Gives a job back, to be taken again after `wait`.
///
/// * `counts`: whether this was an attempt. A node that stops, or a database that was away, says nothing about the
///   document.
///
/// # Errors
/// See [`Error`].
pub async fn give_back(client: &Client, job: &Job, wait: Duration, counts: bool) -> Result<(), Error> {
    let sql = "
        with locked as (
            select id from documents where id = $5 for no key update
        ), j as (
            update jobs set lease_token = null, lease_until = null, run_after = now() + $3 * interval '1 second',
                            attempts = attempts - $4
            from locked where jobs.id = $1 and lease_token = $2 and document_id = locked.id
            returning document_id, kind
        )
        update documents d set status = 'queued', progress = 0, updated_at = now()
        from j where d.id = j.document_id and j.kind = 'ingest'";
    let attempts = i32::from(!counts);
    client.execute(sql, &[&job.id, &job.token, &wait.as_secs_f64(), &attempts, &job.document.0]).await?;
    Ok(())
}

/// Ends a job without a result. A document that was searchable before stays so, without vectors: its job is kept, never
/// due, so that it is not queued for ever again.
///
/// # Errors
/// See [`Error`].
pub async fn fail(client: &Client, job: &Job, reason: &str) -> Result<(), Error> {
    if job.kind == Kind::Embed {
        let sql = "update jobs set run_after = 'infinity', lease_token = null, lease_until = null
                   where id = $1 and lease_token = $2";
        client.execute(sql, &[&job.id, &job.token]).await?;
        return Ok(());
    }
    let sql = "
        with locked as (
            select id from documents where id = $4 for no key update
        ), j as (
            delete from jobs using locked
            where jobs.id = $1 and lease_token = $2 and document_id = locked.id
            returning document_id
        )
        update documents d set status = 'failed', reason = $3, updated_at = now()
        from j where d.id = j.document_id";
    client.execute(sql, &[&job.id, &job.token, &reason, &job.document.0]).await?;
    Ok(())
}

/// Queues the embedding of up to `limit` searchable documents that have no vectors and were not given up. Returns how
/// many.
///
/// # Errors
/// See [`Error`].
pub async fn queue_embeddings(client: &Client, limit: i64) -> Result<u64, Error> {
    let sql = "
        insert into jobs (id, kind, document_id)
        select gen_random_uuid(), 'embed', d.id from documents d
        where d.generation is null and d.status = 'ready'
          and not exists (select from jobs j where j.document_id = d.id and j.kind = 'embed')
        limit $1
        on conflict do nothing";
    client.execute(sql, &[&limit]).await
}

/// Counts the jobs that wait, those given up not included, for the metrics.
///
/// # Errors
/// See [`Error`].
pub async fn count_waiting(client: &Client) -> Result<i64, Error> {
    let sql = "select count(*) from jobs
               where run_after < 'infinity' and (lease_until is null or lease_until < now())";
    Ok(client.query_one(sql, &[]).await?.get(0))
}
