/** It cannot be measured here, and why. */
export class Missing extends Error {}
