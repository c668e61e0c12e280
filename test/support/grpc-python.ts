/** A Python that has grpcio, protobuf and the protobuf compiler: another implementation of gRPC to test against. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PACKAGES = ['python3-grpcio', 'python3-protobuf', 'protobuf-compiler', 'libprotobuf-dev'];
const DEBIAN_PYTHON = '/usr/bin/python3';

/** The path of such a Python. As root on Debian it is installed; elsewhere the error names the command to run. */
export async function findGrpcPython(): Promise<string> {
  const candidates = [DEBIAN_PYTHON, 'python3'];
  for (const python of candidates) if (await works(python)) return python;
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    await run('apt-get', ['update', '-q'], { maxBuffer: 2 ** 26 });
    await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...PACKAGES], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      maxBuffer: 2 ** 26,
    });
    if (await works(DEBIAN_PYTHON)) return DEBIAN_PYTHON;
  }
  throw new Error(`A Python with grpcio is missing. Run: sudo apt-get install ${PACKAGES.join(' ')}`);
}

async function works(python: string): Promise<boolean> {
  try {
    await run(python, ['-c', 'import grpc, google.protobuf']);
    await run('protoc', ['--version']);
    return existsSync('/usr/include/google/protobuf/timestamp.proto');
  } catch {
    // Not there, or not complete: the caller goes on looking.
    return false;
  }
}
