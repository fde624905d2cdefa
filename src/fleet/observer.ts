import type { ProviderFailure } from "../domain/errors.ts";

export type ProviderCall = "create" | "list" | "destroy";

/**
 * Hears of what only this process knows and no fact records, to count it. Everything else that is
 * measured is read from the history, so that the fleet's steps need not speak of metrics. Must not
 * throw or wait.
 */
export interface Observer {
  /** A call to a provider failed, or was given up at its deadline. */
  providerFailed(provider: string, call: ProviderCall, failure: ProviderFailure): void;
}

export const silentObserver: Observer = { providerFailed: () => {} };
