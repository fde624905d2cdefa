import { MayflyError } from "../../domain/errors.ts";

/** What runners are registered for, as a path of the REST API names it. */
export type Scope =
  | { readonly kind: "repository"; readonly owner: string; readonly repository: string }
  | { readonly kind: "organisation"; readonly organisation: string }
  | { readonly kind: "enterprise"; readonly enterprise: string };

export interface Address {
  /** The configured URL in its plain form: what the scale-set service knows the scope by. */
  readonly url: string;
  readonly host: string;
  /** The base of the REST API, without a slash at its end. */
  readonly api: string;
  /** github.com or a subdomain of ghe.com: GitHub runs it. */
  readonly isHosted: boolean;
  readonly scope: Scope;
  /** Begins the paths of runners: `/orgs/acme`. */
  readonly path: string;
  /** In words: `organisation acme`. */
  readonly told: string;
}

const name = /^[A-Za-z0-9_.-]{1,100}$/;
const hosted = /^(www\.)?github\.com$|^github\.localhost$|\.ghe\.com$/;

/**
 * Reads `https://HOST/ORG`, `https://HOST/OWNER/REPO` or `https://HOST/enterprises/NAME`, the form
 * that GitHub's own runners and scale sets are configured by. The API's base is `api.HOST` where
 * GitHub is the host, and `HOST/api/v3` on a GitHub Enterprise Server (actions/scaleset, config.go).
 * Plain http is for a server on this machine. Throws `invalid`.
 */
export function parseAddress(text: string): Address {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || url.username !== "" || url.password !== "" || url.search !== "") {
    throw wrong("is no address of GitHub's");
  }
  const isLocal = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLocal)) {
    throw wrong("must begin with https://");
  }
  const parts = url.pathname.split("/").filter((part) => part !== "");
  if (!parts.every((part) => name.test(part) && !/^\.+$/.test(part))) {
    throw wrong("names something that GitHub does not let be named so");
  }
  const scope = scopeOf(parts);
  if (scope === null) throw wrong("names no repository, organisation or enterprise");
  const isHosted = hosted.test(url.hostname);
  const host = url.host.replace(/^www\./, "");
  return {
    url: `${url.protocol}//${host}/${parts.join("/")}`,
    host,
    api: isHosted ? `${url.protocol}//api.${host}` : `${url.protocol}//${host}/api/v3`,
    isHosted,
    scope,
    ...words(scope),
  };
}

/** Whether a repository (`owner/name`) lies in a scope. An enterprise's cannot be told by name. */
export function isWithin(scope: Scope, fullName: string): boolean {
  const given = fullName.toLowerCase();
  if (scope.kind === "enterprise") return given.includes("/");
  if (scope.kind === "organisation")
    return given.startsWith(`${scope.organisation.toLowerCase()}/`);
  return given === `${scope.owner}/${scope.repository}`.toLowerCase();
}

function scopeOf([first, second, ...more]: readonly string[]): Scope | null {
  if (first === undefined || more.length > 0) return null;
  if (second === undefined) {
    return first === "enterprises" ? null : { kind: "organisation", organisation: first };
  }
  if (first === "enterprises") return { kind: "enterprise", enterprise: second };
  return { kind: "repository", owner: first, repository: second };
}

function words(scope: Scope): { path: string; told: string } {
  switch (scope.kind) {
    case "repository": {
      const fullName = `${scope.owner}/${scope.repository}`;
      return { path: `/repos/${fullName}`, told: `repository ${fullName}` };
    }
    case "organisation":
      return {
        path: `/orgs/${scope.organisation}`,
        told: `organisation ${scope.organisation}`,
      };
    case "enterprise":
      return { path: `/enterprises/${scope.enterprise}`, told: `enterprise ${scope.enterprise}` };
  }
}

function wrong(what: string): MayflyError {
  return new MayflyError("invalid", `the address ${what}`, {
    where: "url",
    hint: "Write https://github.com/ORG, https://github.com/OWNER/REPO or https://github.com/enterprises/NAME.",
  });
}
