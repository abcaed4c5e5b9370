/** What piscina calls. */
export default () => {}
