import assert from "node:assert/strict";

/* Compares what is read, and what is played, with what a real server publishes of itself. */

interface Swagger {
  readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly definitions: Readonly<Record<string, { readonly properties?: object }>>;
}

export async function readSwagger(url: string): Promise<Swagger> {
  const response = await fetch(`${url}/swagger.v1.json`, { signal: AbortSignal.timeout(60_000) });
  assert.equal(response.status, 200);
  return (await response.json()) as Swagger;
}

/** That the server has each of these, `GET /orgs/{org}/actions/jobs` and the like. */
export function assertRoutes({ paths }: Swagger, routes: readonly string[]): void {
  // Parameters' names are the server's own business.
  const plain = (path: string): string => path.replaceAll(/\{[^}]*\}/g, "{}");
  const known = new Set(
    Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${plain(path)}`),
    ),
  );
  const missing = routes.filter((route) => !known.has(plain(route)));
  assert.deepEqual(missing, []);
}

/** That each of these fields is one of the definition's. */
export function assertFields(
  { definitions }: Swagger,
  definition: string,
  fields: readonly string[],
): void {
  const known = new Set(Object.keys(definitions[definition]?.properties ?? {}));
  assert.deepEqual(
    fields.filter((field) => !known.has(field)),
    [],
    definition,
  );
}
