/**
 * The browser of the tests: CHROMIUM_PATH, else the one that is installed, else on Debian as root its package is
 * installed, else an error that names what to do.
 */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { chromium, type Browser } from '@playwright/test';
import { installOnDebian } from './debian-packages.js';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** No sandbox as root, nothing that calls home. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Starts the browser; close it in `afterAll`. */
export async function launchChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: await chromiumPath(), args: FLAGS });
}

/** Where the browser is. Throws an error that names the command to run where there is none. */
export async function chromiumPath(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const wished = env.CHROMIUM_PATH;
  if (wished) {
    if (await isExecutable(wished)) return wished;
    throw new Error(`CHROMIUM_PATH is ${JSON.stringify(wished)}, but there is no program that can be run.`);
  }
  return (await installed(env)) ?? (await install(env));
}

async function installed(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    for (const name of NAMES) {
      const path = join(folder, name);
      if (folder !== '' && (await isExecutable(path))) return path;
    }
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function install(env: NodeJS.ProcessEnv): Promise<string> {
  const advice = 'Install Chromium (on Debian or Ubuntu: apt-get install -y chromium), or set CHROMIUM_PATH to it.';
  const isDone = await installOnDebian(['chromium']).catch((error: unknown) => {
    throw new Error(`The browser tests need Chromium, and installing it failed. ${advice}`, { cause: error });
  });
  if (!isDone) throw new Error(`The browser tests need Chromium. ${advice}`);
  const path = await installed(env);
  if (path === undefined) throw new Error(`Chromium was installed, but it is not on the PATH. ${advice}`);
  return path;
}
