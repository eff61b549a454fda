// select: wait for two channels at once.
package main

import "fmt"

func main() {
	numbers, done := make(chan int), make(chan bool)

	go func() {
		for _, number := range []int{1, 2} {
			numbers <- number
		}
		close(done)
	}()

	for {
		select {
		case number := <-numbers:
			fmt.Println("number", number)
		case <-done:
			fmt.Println("done")
			return
		}
	}
}
