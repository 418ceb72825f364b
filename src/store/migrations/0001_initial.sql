-- The first schema. Postgres is the truth; every index, snapshot and cache is derived from it.

-- Changes when the database stops being the one that log cursors were read from (restore, promotion).
create table epoch (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid()
);
insert into epoch default values;

-- Keys for CSRF, cursors and consistency tokens, so that every node agrees. The newest of a purpose signs, all verify.
create table keyring (
    id bigint generated always as identity primary key,
    purpose text not null,
    key bytea not null check (length(key) = 32),
    created_at timestamptz not null default now()
);
create index keyring_purpose on keyring (purpose, id desc);

-- One model per database: vectors of different generations are never compared.
create table embedding_model (
    generation int primary key,
    name text not null,
    pooling text not null,
    dimension int not null check (dimension > 0),
    sha256 bytea not null check (length(sha256) = 32),
    state text not null check (state in ('building', 'active', 'retired')),
    created_at timestamptz not null default now()
);
create unique index embedding_model_active on embedding_model (state) where state = 'active';

create table users (
    id uuid primary key,
    username text not null,
    email text not null,
    password text not null,
    is_active boolean not null default true,
    is_staff boolean not null default false,
    created_at timestamptz not null default now(),
    last_login timestamptz
);
-- Names that differ only in case would let one user pose as another.
create unique index users_username on users (lower(username));

-- Only hashes of session keys and tokens are stored: a copy of the database opens no session.
create table sessions (
    key_hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expires on sessions (expires_at);

create table api_tokens (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    token_hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz
);
create index api_tokens_user on api_tokens (user_id);

create table invitations (
    code_hash bytea primary key,
    created_by uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_by uuid references users on delete set null
);

create table login_attempts (
    bucket text not null,
    attempted_at timestamptz not null default now()
);
create index login_attempts_bucket on login_attempts (bucket, attempted_at);

-- The unit of sharing and of the index.
create table collections (
    id uuid primary key,
    name text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table members (
    collection_id uuid not null references collections on delete cascade,
    user_id uuid not null references users on delete cascade,
    role text not null check (role in ('viewer', 'editor', 'owner')),
    created_at timestamptz not null default now(),
    primary key (collection_id, user_id)
);
create index members_user on members (user_id, collection_id);

create table documents (
    id uuid primary key,
    collection_id uuid not null references collections on delete cascade,
    owner_id uuid references users on delete set null,
    title text not null,
    file_name text not null,
    media_type text not null,
    size_bytes bigint not null check (size_bytes >= 0),
    sha256 bytea not null check (length(sha256) = 32),
    blob text not null,
    status text not null check (status in ('queued', 'extracting', 'embedding', 'ready', 'failed')),
    reason text,
    progress real not null default 0,
    -- 0: nothing published yet; the published chunks and text are those of this version.
    version int not null default 0,
    chunk_count int not null default 0,
    -- The generation of the published vectors; null while the document is searchable by text only.
    generation int references embedding_model,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index documents_content on documents (collection_id, sha256);
create index documents_collection on documents (collection_id, id);
create index documents_owner on documents (owner_id);

-- The extracted text that spans point into, kept so that a new extractor never moves an old citation.
create table document_texts (
    document_id uuid primary key references documents on delete cascade,
    version int not null,
    text text not null
);

create table chunks (
    id uuid primary key,
    document_id uuid not null references documents on delete cascade,
    version int not null,
    ordinal int not null,
    heading text not null,
    text text not null,
    -- Unicode scalar offsets into the document's text: text[span_start..span_end].
    span_start int not null,
    span_end int not null check (span_end >= span_start),
    page int,
    -- Little-endian f32, or null while there is no model.
    embedding bytea,
    unique (document_id, version, ordinal)
);
-- Vectors do not compress, and hydration never reads them.
alter table chunks alter column embedding set storage external;

create table jobs (
    id uuid primary key,
    kind text not null check (kind in ('ingest', 'embed')),
    document_id uuid not null references documents on delete cascade,
    attempts int not null default 0,
    run_after timestamptz not null default now(),
    lease_token uuid,
    lease_until timestamptz,
    created_at timestamptz not null default now(),
    unique (kind, document_id)
);
create index jobs_ready on jobs (run_after, id);

-- Originals whose rows are gone; removed from the object store by whichever node comes first.
create table blob_removals (
    blob text primary key,
    created_at timestamptz not null default now()
);

-- "Document D changed", nothing more. Read from the primary only, behind the snapshot horizon:
-- (xid, seq) > cursor and xid < pg_snapshot_xmin(pg_current_snapshot()).
create table index_log (
    xid xid8 not null default pg_current_xact_id(),
    seq bigint generated always as identity,
    document_id uuid not null,
    token uuid not null default gen_random_uuid(),
    primary key (xid, seq)
);

create table nodes (
    id uuid primary key,
    role text not null,
    address text not null,
    version text not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);

create table chats (
    id uuid primary key,
    owner_id uuid not null references users on delete cascade,
    title text not null,
    -- Null: everything the owner may read at the time of the question.
    collections uuid[],
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index chats_owner on chats (owner_id, updated_at desc, id desc);

create table messages (
    id uuid primary key,
    chat_id uuid not null references chats on delete cascade,
    role text not null check (role in ('user', 'assistant')),
    -- The question that an answer belongs to.
    question_id uuid references messages on delete cascade,
    content text not null,
    status text not null check (status in ('streaming', 'complete', 'interrupted', 'cancelled', 'failed')),
    citations jsonb not null default '[]',
    finish_reason text,
    created_at timestamptz not null default now()
);
create index messages_chat on messages (chat_id, id);
create index messages_question on messages (question_id) where question_id is not null;

-- Who generates an answer. Journal and terminal writes require the token.
create table generations (
    message_id uuid primary key references messages on delete cascade,
    token uuid,
    lease_until timestamptz,
    cancel_requested boolean not null default false,
    created_at timestamptz not null default now()
);

-- The events of an answer's stream, so that any node can replay them.
create table stream_journal (
    message_id uuid not null references messages on delete cascade,
    event_id int not null,
    event text not null,
    data text not null,
    created_at timestamptz not null default now(),
    primary key (message_id, event_id)
);
