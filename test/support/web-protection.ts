/** Mass silence as a server would tell of it, for tests of how the page looks then. */
import { create, toBinary } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import type { Page } from '@playwright/test';
import { ListProtectionsResponseSchema } from '../../proto/gen/taskdash/task/v1/session_service_pb.js';

/** Answers the page's question for protections with one of a server that has held 48 sessions for a minute. */
export async function tellOfMassSilence(page: Page, node = 'node-1'): Promise<void> {
  const protection = {
    ...{ node, lost: 60, of: 200, held: 48, heldBy: '' },
    since: durationFromMs(60_000),
    endsIn: durationFromMs(840_000),
  };
  const message = create(ListProtectionsResponseSchema, { protections: [protection] });
  const body = Buffer.from(toBinary(ListProtectionsResponseSchema, message));
  await page.route('**/taskdash.task.v1.SessionService/ListProtections*', (route) =>
    route.fulfill({ contentType: 'application/proto', body }),
  );
}
