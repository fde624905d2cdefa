/** The part of a logger that the fleet uses: one line a decision. pino fits it. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export const silentLog: Log = { info: () => {}, warn: () => {} };
