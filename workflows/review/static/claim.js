// Whose case it is: taken when it is opened, held while the page is open, given back when it is left.

import { post, remove } from "./api.js";
import { timeText } from "./words.js";

const HEARTBEAT_S = 120;
const ASK_AGAIN_S = 20;

export class Claim {
  // onChange(reason): why this reader may not decide now; empty where they may.
  constructor(caseId, onChange) {
    Object.assign(this, { caseId, onChange, mine: false, left: false, timer: 0 });
  }

  async take() {
    clearTimeout(this.timer);
    let wait = HEARTBEAT_S;
    try {
      await post(`/api/cases/${this.caseId}/claim`);
      if (this.left) return this.giveBack();
      this.mine = true;
      this.onChange("");
    } catch (error) {
      wait = ASK_AGAIN_S;
      if (error.status === 409) {
        const other = error.body.claimed_by;
        const until = error.body.until ? ` until ${timeText(error.body.until)}` : "";
        const lost = this.mine ? "The case went to" : "";
        this.mine = false;
        this.onChange(other ? `${lost || other}${lost ? ` ${other}` : " has this case"}${until}. You can look; deciding opens when it is free.` : error.message);
      } else if (!error.unreachable) {
        this.mine = false;
        this.onChange(error.message);
      }
    }
    if (!this.left) this.timer = setTimeout(() => this.take(), 1000 * wait);
  }

  leave() {
    this.left = true;
    clearTimeout(this.timer);
    if (this.mine) this.giveBack();
  }

  giveBack() {
    this.mine = false;
    remove(`/api/cases/${this.caseId}/claim`, { keepalive: true }).catch(() => {});
  }
}
