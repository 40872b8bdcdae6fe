// Gleason patterns to grade group, after the ISUP consensus of 2014 (Epstein et al., Am J Surg Pathol 2016, 40:244-252):
// 3+3 is 1, 3+4 is 2, 4+3 is 3, a sum of 8 is 4, a sum of 9 or 10 is 5.

export const PATTERNS = [3, 4, 5];

export function gradeGroup(primary, secondary) {
  if (!PATTERNS.includes(primary) || !PATTERNS.includes(secondary)) return null;
  const sum = primary + secondary;
  if (sum === 6) return "1";
  if (sum === 7) return primary === 3 ? "2" : "3";
  return sum === 8 ? "4" : "5";
}

// Patterns are asked for only where the model's classes are the grade groups themselves.
export function knowsGleason(task, classes) {
  return task === "grade" && classes.every((name) => "012345".includes(name)) && ["1", "2", "3", "4", "5"].every((name) => classes.includes(name));
}
