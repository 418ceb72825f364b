-- What the streams of answers ask for.

-- One answer to a question is written at a time, however often and wherever it is asked for.
create unique index messages_streaming on messages (question_id) where status = 'streaming';

-- Journals are deleted by age.
create index stream_journal_created on stream_journal (created_at);
