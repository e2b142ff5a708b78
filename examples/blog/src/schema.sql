create table if not exists team (id bigserial primary key, name text not null);
create table if not exists account (
    id bigserial primary key, name text not null, email text not null unique, team_id bigint not null references team
);
create table if not exists post (
    id bigserial primary key, author_id bigint not null references account, title text not null
);
create table if not exists comment (
    id bigserial primary key, post_id bigint not null references post,
    author_id bigint not null references account, text text not null
);
