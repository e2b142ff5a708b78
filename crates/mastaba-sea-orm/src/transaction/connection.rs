//! A transaction as a connection: its statements are counted and watched.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::Transaction;

/// Every statement counts as one in the report of the request. A text of several statements, too: SeaORM does not say how
/// many they were.
#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.level().get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.send(self.level().execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.send(self.level().execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.send(self.level().query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.send(self.level().query_all_raw(statement)).await
    }

    fn support_returning(&self) -> bool {
        self.level().support_returning()
    }
}

impl Transaction {
    async fn send<T>(&self, work: impl Future<Output = Result<T, DbErr>> + Send) -> Result<T, DbErr> {
        self.seen.over()?;
        let trip = self.request.database_trip("statement", 1);
        self.seen.watch(self.get_database_backend(), trip, work).await
    }
}
