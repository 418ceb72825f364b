-- What ingestion and the event stream ask for all the time.

-- "What changed of my documents" is asked every second by everyone who watches.
create index documents_changed on documents (collection_id, updated_at);
create index documents_unfinished on documents (collection_id) where status in ('queued', 'extracting', 'embedding');

-- Documents that wait for a model; empty once there is one.
create index documents_without_vectors on documents (id) where generation is null and status = 'ready';

-- The sweep for originals without a row asks by name.
create index documents_blob on documents (blob);
