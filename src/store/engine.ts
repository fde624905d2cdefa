/** The two engines under the same schema and queries. */
export type Engine = "sqlite" | "postgres";
