/** How many connections a door takes, together and from one network. */
import { networkOf } from '../domain/network.js';
import { plainAddress } from './client-address.js';
import type { Gate } from './reading-turns.js';

/** What a door takes. */
export interface ConnectionLimits {
  readonly together: number;
  /** From one network, unless the address is that of a trusted proxy. */
  readonly network: number;
  readonly isProxy?: (address: string) => boolean;
}

/** All trusted proxies, as one network. */
const PROXIES = 'proxies';

export class ConnectionGate implements Gate {
  readonly #perNetwork = new Map<string, number>();
  #count = 0;

  constructor(private readonly limits: ConnectionLimits) {}

  admits(address: string): boolean {
    if (this.#count >= this.limits.together) return false;
    const network = this.#networkOf(address);
    const open = (this.#perNetwork.get(network) ?? 0) + 1;
    if (open > this.limits.network && network !== PROXIES) return false;
    this.#perNetwork.set(network, open);
    this.#count++;
    return true;
  }

  onClosed(address: string): void {
    const network = this.#networkOf(address);
    const left = (this.#perNetwork.get(network) ?? 0) - 1;
    if (left > 0) this.#perNetwork.set(network, left);
    else this.#perNetwork.delete(network);
    this.#count--;
  }

  #networkOf(address: string): string {
    return this.limits.isProxy?.(plainAddress(address)) ? PROXIES : networkOf(address);
  }
}
