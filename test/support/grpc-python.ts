/** A Python that has grpcio, protobuf and the protobuf compiler: another implementation of gRPC to test against. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { installOnDebian } from './debian-packages.js';

const run = promisify(execFile);
const PACKAGES = [
  'python3-grpcio',
  'python3-protobuf',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'libprotobuf-dev',
];
/** What protoc needs to write stubs for Python. */
export const GRPC_PLUGIN = '/usr/bin/grpc_python_plugin';
const DEBIAN_PYTHON = '/usr/bin/python3';

/** The path of such a Python. As root on Debian it is installed; elsewhere the error names the command to run. */
export async function findGrpcPython(): Promise<string> {
  const candidates = [DEBIAN_PYTHON, 'python3'];
  for (const python of candidates) if (await works(python)) return python;
  if ((await installOnDebian(PACKAGES)) && (await works(DEBIAN_PYTHON))) return DEBIAN_PYTHON;
  throw new Error(`A Python with grpcio is missing. Run: sudo apt-get install ${PACKAGES.join(' ')}`);
}

async function works(python: string): Promise<boolean> {
  try {
    await run(python, ['-c', 'import grpc, google.protobuf']);
    await run('protoc', ['--version']);
    return existsSync('/usr/include/google/protobuf/timestamp.proto') && existsSync(GRPC_PLUGIN);
  } catch {
    // Not there, or not complete: the caller goes on looking.
    return false;
  }
}
