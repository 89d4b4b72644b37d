/** The version of this build; a test holds it equal to package.json, which is not there beside a bundle. */
export const VERSION = '0.1.0'
