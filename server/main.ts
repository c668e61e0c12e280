#!/usr/bin/env node
import { run } from './cli.js';

process.exit(await run(process.argv.slice(2), process.env));
